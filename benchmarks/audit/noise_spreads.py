"""Spreads under automatic noise over those of the simulation written by hand.

    JAX_ENABLE_X64=1 python -m benchmarks.audit.noise_spreads [CASE ...]

For each case of TRPO's grid (all those that the tests run if none is named), each stage
of both backends is run in float64 under `parity_kit`'s noise, and the spread of each
quantity compared with `Evidence.spread`, which comes from the NumPy reference and noise
put in by hand. Writes noise_spreads.json and .md: per quantity the geometric mean of
the ratios over all cases, the lowest and the highest. Quantities whose spread is
rounding of float64 itself are left out.
"""

import contextlib
import dataclasses
import functools
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import tyro

from benchmarks.audit import report
from benchmarks.command import Output, run_command
from parity_kit.noise.jax_noise import with_rounding_noise
from parity_kit.noise.torch_noise import rounding_noise
from parity_tests import bridges
from parity_tests.common import process_setup
from parity_tests.common.canonical import Arrays
from parity_tests.problems import cases
from parity_tests.reference.problem import Problem
from parity_tests.reference.update import Teacher
from parity_tests.rings import evidence
from trpo_jax.agent import agent
from trpo_jax.agent.update import pure_update


RUNS = 8
RESULTS = "audit"
# Of the quantity's own norm: below it, float64 itself is what spreads.
FLOOR = 1e-12


@dataclasses.dataclass
class Arguments(Output):
    """Compare automatic noise with that of the simulation by hand."""

    cases: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Of TRPO's grid; by default all that the tests run."""


def main(arguments: Arguments) -> None:
    """Run the cases, and write what is known after each."""
    process_setup.prepare()
    names = list(arguments.cases) or evidence.test_cases()
    folder = arguments.folder(RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for done, name in enumerate(names, 1):
        start = time.time()
        for framework, quantity, ratio in of_case(name):
            ratios[quantity, framework].append(ratio)
        print(f"{name}: {time.time() - start:.0f} s", file=sys.stderr, flush=True)
        _write(names[:done], ratios, folder)
    print(report.noise_page(folder))


def _write(
    names: list[str], ratios: dict[tuple[str, str], list[float]], folder: Path
) -> None:
    """After each case, since all of them take an hour."""
    rows = [_row(quantity, ratios) for quantity in sorted({q for q, _ in ratios})]
    found = {"cases": names, "runs": RUNS, "quantities": rows}
    (folder / "noise_spreads.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "noise_spreads.md").write_text(report.noise_page(folder))


def of_case(name: str) -> Iterator[tuple[str, str, float]]:
    """(framework, quantity, its spread over the reference's) of one case."""
    found = evidence.gather(name)
    problem, teacher = cases.build(name, 0), bridges.teacher_of(name, 0)
    for framework, stages in (("torch", _torch_stages), ("jax", _jax_stages)):
        run = functools.partial(stages, problem, teacher)
        exact, decisions = run(None)
        noisy = [run(seed) for seed in range(RUNS)]
        for quantity, value in exact.items():
            if quantity not in found.reference.values:
                continue
            if not _comparable(quantity, decisions, [d for _, d in noisy]):
                continue
            errors = [np.linalg.norm(values[quantity] - value) for values, _ in noisy]
            spread = math.sqrt(np.mean(np.square(errors)))
            want = found.spread(quantity)
            if min(spread, want) > FLOOR * max(np.linalg.norm(value), 1e-300):
                yield framework, quantity, spread / want


def _comparable(quantity: str, exact: dict, noisy: list[dict]) -> bool:
    return all(
        all(run.get(decision) == exact.get(decision) for run in noisy)
        for decision, prefixes in evidence.CONSEQUENCES.items()
        if quantity.startswith(prefixes)
    )


def _torch_stages(
    problem: Problem, teacher: Teacher, seed: int | None
) -> tuple[Arrays, dict]:
    """The bridge's stages and the agent's update, as the grid runs them."""
    inside = contextlib.nullcontext() if seed is None else rounding_noise(seed)
    with inside:
        stages = bridges.run("torch", problem, teacher, "float64")
    return stages.values, stages.decisions


def _jax_stages(
    problem: Problem, teacher: Teacher, seed: int | None
) -> tuple[Arrays, dict]:
    """The same; each of JAX's compiled functions is evaluated with noise."""
    if seed is None:
        stages = bridges.run("jax", problem, teacher, "float64")
        return stages.values, stages.decisions

    def compiled(function: Callable, statics: int, device: str) -> Callable:
        return lambda *args: with_rounding_noise(
            _bound(function, args[:statics]), seed
        )(*args[statics:])

    def update(functions: Any, options: Any, *args: Any) -> Any:
        whole = _bound(pure_update, (functions, options))
        return with_rounding_noise(whole, seed)(*args)

    with (
        mock.patch.object(bridges.side("jax"), "_compiled", compiled),
        mock.patch.object(agent, "update", update),
    ):
        stages = bridges.run("jax", problem, teacher, "float64")
    return stages.values, stages.decisions


@functools.cache
def _bound(function: Callable, statics: tuple) -> Callable:
    return functools.partial(function, *statics)


def _row(quantity: str, ratios: dict[tuple[str, str], list[float]]) -> dict:
    row: dict = {"quantity": quantity}
    for framework in ("torch", "jax"):
        found = ratios.get((quantity, framework), [])
        if found:
            row[framework] = {
                "cases": len(found),
                "mean": math.exp(np.mean(np.log(found))),
                "lowest": min(found),
                "highest": max(found),
            }
    return row


if __name__ == "__main__":
    run_command(main, Arguments)
