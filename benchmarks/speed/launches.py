"""Counts the kernels that one compiled JAX update starts, from the program's text.

XLA's own optimised program says which operations were fused and how often each loop
turns. One instruction that computes something is one launch. A GPU's compiler fuses by
rules of its own, so that its count differs, by less than a factor of two where both are
known; what counts here is that it is thousands and not dozens.
"""

import re
from collections.abc import Sequence

import numpy as np

from benchmarks.speed.problems import Size, make_problem
from benchmarks.speed.subjects import CG_ITERATIONS, EPOCHS, MINIBATCH
from trpo.common.random_streams import minibatch_orders
from trpo.data.batch import Batch


# Instructions that name, regroup or repeat data, and start nothing.
FREE = frozenset(
    (
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota"),
        *("broadcast", "reshape", "after-all", "conditional"),
    )
)
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (?:\(.*?\)|\S+) ([a-z-]+)\((.*)$")
BODY = re.compile(r"body=%?([\w.-]+)")
CALLED = re.compile(r"to_apply=%?([\w.-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def optimised_program(size: Size) -> str:
    """XLA's optimised program of one update, for the platform that JAX runs on."""
    from trpo_jax import TRPOAgent
    from trpo_jax.agent import update as compiled

    agent = TRPOAgent(
        size.obs_dim, size.act_dim, -1.0, 1.0, "cpu", size.layers, size.layers,
        cg_iters=CG_ITERATIONS, value_epochs=EPOCHS, value_minibatch_size=MINIBATCH,
    )  # fmt: skip
    orders = minibatch_orders(
        np.random.default_rng(0), epochs=EPOCHS, size=size.samples
    )
    batch = Batch(**make_problem(size).batch)
    options = agent.config.step_options()
    numbers = agent.backend.in_dtype_of(agent.config.step_numbers())
    lowered = compiled.update.lower(
        agent.backend.functions, options, agent.backend.state, batch, orders, numbers
    )
    text = lowered.compile().as_text()
    assert text is not None, "XLA gives no text of its program"
    return text


def count(program: str, turns: Sequence[int]) -> int:
    """Launches of one run of a program.

    Args:
        program: Text of an optimised HLO module.
        turns: How often the loops turn whose number the compiler doesn't know, in the
            order of the entry computation: conjugate gradient, then line search.

    Raises:
        ValueError: there are more such loops than `turns`, or fewer.
    """
    computations, entry = _parse(program)
    remaining = list(turns)

    def launches(name: str) -> int:
        total = 0
        for opcode, rest in computations[name]:
            if opcode == "while":
                known = TRIPS.search(rest)
                if known is None and not remaining:
                    raise ValueError(
                        f"`turns`: expected one number for each loop of unknown "
                        f"length, got {len(turns)}."
                    )
                times = int(known[1]) if known else remaining.pop(0)
                body = BODY.search(rest)
                assert body is not None, rest
                total += times * launches(body[1])
            elif opcode == "call":
                called = CALLED.search(rest)
                assert called is not None, rest
                total += launches(called[1])
            elif opcode not in FREE:
                total += 1
        return total

    total = launches(entry)
    if remaining:
        raise ValueError(
            f"`turns`: expected {len(turns) - len(remaining)} numbers, got {turns}."
        )
    return total


def _parse(program: str) -> tuple[dict[str, list[tuple[str, str]]], str]:
    """Instructions of each computation (opcode, the rest), and the entry's name."""
    computations: dict[str, list[tuple[str, str]]] = {}
    name = entry = ""
    for line in program.splitlines():
        if found := COMPUTATION.match(line):
            name = found[2]
            computations[name] = []
            entry = name if found[1] else entry
        elif found := INSTRUCTION.match(line):
            computations[name].append((found[1], found[2]))
    return computations, entry
