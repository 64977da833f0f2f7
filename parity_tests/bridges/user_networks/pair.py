"""`trpo parity --policy-network-pair my_nets:pair`: networks of a `parity_kit.Pair`.

Both backends' agents get the user's network, the same weights by the pair's map, and
one batch of samples. What the grid's stages and a whole update give is a pair of
functions again, which `parity_kit` proves: all of its rings, noise and faults. Each
stage is marked by a probe, so that the first one that differs is named.
"""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from parity_kit import command, probe
from parity_kit.pair import FRAMEWORKS, Pair
from parity_kit.processes import Processes
from parity_kit.sides import Live, Problem, Weights
from parity_kit.weights.transforms import parts_of
from parity_tests.problems.cases import DEFAULTS
from trpo.config.run import TRPOConfig
from trpo.spaces.action_heads import CATEGORICAL, GAUSSIAN, Head


SEEDS = 3
# How far the old log-probabilities are from the policy's own, nats.
STALENESS = 0.1
# Of the critic.
LAYERS = (8,)
# Numbers of a report that are compared; the others are differences of these, or what
# conjugate gradient leaves over, which is rounding.
METRICS = (
    "improvement", "kl", "entropy", "step_norm", "expected_improve", "ratio_std",
    "value_loss", "value_mae",
)  # fmt: skip
STAGES = {
    "network": (),
    "objective": (
        "log_prob", "entropy", "kl", "log_ratio", "surrogate", "ratio", "improvement",
    ),
    "surrogate gradient": ("gradient",),
    "Fisher product": ("fisher",),
    "conjugate gradient": ("cg",),
    "line search": ("line_search",),
    "update": ("update",),
}  # fmt: skip


def run(text: str, devices: tuple[str, ...], out: Any) -> int:
    """Prove the pair, or pairs, that a text names; the exit status."""
    parsed = command.Arguments(text, seeds=SEEDS, devices=devices, out=out)
    return command.run(parsed, changed=in_updates)


def in_updates(
    pairs: Mapping[str, tuple[Pair, dict]], processes: Processes
) -> dict[str, tuple[Pair, dict]]:
    """For each pair of networks, and each head that their outputs fit, its updates.

    Raises:
        ValueError: they are no networks of a policy.
    """
    found = {}
    for name, (pair, where) in pairs.items():
        networks = Networks(pair, where, processes)
        for head in networks.heads():
            found[f"{name}, {head.distribution}"] = networks.updates(head)
    return found


class Networks:
    """A pair of policy networks, each found in its process."""

    def __init__(self, pair: Pair, where: dict, processes: Processes) -> None:
        self.reference = pair.reference(where)
        sides = {name: Live(name, pair, processes) for name in FRAMEWORKS}
        processes.start(*(side.key("float64") for side in sides.values()))
        described = {n: s.load("float64", self.reference) for n, s in sides.items()}
        for name, kind in (("torch", "torch.nn.Module"), ("jax", "flax.nnx.Module")):
            if not described[name]["module"]:
                raise ValueError(
                    f"`{name}`: a policy's network is a {kind}, got a function; for "
                    "functions there is --pair."
                )
        self.parameters = list(described["torch"]["parameters"])
        weights = Weights(pair, sides, described)
        self.mapping = weights.mapping
        # All of them now: soon the processes have the updates in their place.
        self.problems = [weights.problem(seed) for seed in range(SEEDS)]
        problem = self.problems[0]
        self.obs_dim = self._obs_dim(problem)
        outputs = {
            name: array
            for name, array in sides["torch"].run(problem, steps=0).arrays.items()
            if name.startswith("outputs")
        }
        shapes = [list(array.shape) for array in outputs.values()]
        if len(shapes) != 1 or len(shapes[0]) != 2:
            raise ValueError(
                "`torch`: a policy's network gives one array [N, outputs], this one "
                f"gave {shapes}."
            )
        self.outputs = shapes[0][1]

    def _obs_dim(self, problem: Problem) -> int:
        shapes = [list(array.shape) for array in problem.inputs]
        if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0] < 2:
            raise ValueError(
                "`inputs`: a policy's network gets one array, observations [N, "
                f"obs_dim] with N from 2 on; these have shapes {shapes}."
            )
        return shapes[0][1]

    def heads(self) -> list[Head]:
        """Real numbers as actions, and a choice where there are options."""
        heads = [Head(self.outputs, GAUSSIAN)]
        if self.outputs > 1:
            heads.append(Head(1, CATEGORICAL, (self.outputs,)))
        return heads

    def updates(self, head: Head) -> tuple[Pair, dict]:
        """The pair of updates with this head, and where it is found."""
        mapping = {n: list(map(list, parts_of(e))) for n, e in self.mapping.items()}
        settings = {
            "torch": self.reference["torch"],
            "jax": self.reference["jax"],
            "mapping": mapping,
            "names": self.names(head),
            "obs_dim": self.obs_dim,
            "head": dataclasses.astuple(head),
        }
        where = {"module": __name__, "path": "update_pair", "call": [settings]}
        made = update_pair(settings)
        inputs = functools.partial(self.inputs, head)
        weights = functools.partial(self.arrays, head)
        return dataclasses.replace(made, inputs=inputs, weights=weights), where

    def arrays(self, head: Head, seed: int) -> dict[str, np.ndarray]:
        """A policy's weights: the network's, and a free log_std where there is one."""
        network = self.problems[seed].weights
        rng = np.random.default_rng([seed, 1])
        free = {"log_std": rng.uniform(-1.0, 0.5, head.reals)}
        found = free | {f"network.{name}": array for name, array in network.items()}
        return {name: found[name] for name in self.names(head)}

    def names(self, head: Head) -> list[str]:
        """A policy's weights in PyTorch's order."""
        free = ["log_std"] if head.family.free_log_std else []
        return [*free, *(f"network.{name}" for name in self.parameters)]

    def inputs(self, head: Head, seed: int) -> tuple[np.ndarray, ...]:
        """Observations, a batch's other columns, and what the solvers are fed."""
        (obs,) = self.problems[seed].inputs
        rng, rows = np.random.default_rng([seed, 2]), len(obs)
        actions = rng.standard_normal((rows, head.act_dim))
        if head.action_sizes:
            actions = rng.integers(head.action_sizes, size=actions.shape).astype(float)
        columns = [
            rng.standard_normal((rows, 1)) + 0.3,
            2.0 * rng.standard_normal((rows, 1)) + 1.0,
            STALENESS * rng.standard_normal((rows, 1)),
        ]
        size = sum(a.size for a in self.arrays(head, seed).values())
        vectors = rng.standard_normal((3, size))
        probe, b, step = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return (obs, actions, *columns, np.sqrt(size) * probe, b, 0.1 * step)


def update_pair(settings: dict[str, Any]) -> Pair:
    """Both sides, each of which imports its framework when it runs."""
    torch, jax = (functools.partial(_side, name, settings) for name in FRAMEWORKS)
    return Pair(torch=torch, jax=jax, inputs=lambda seed: ())


def _side(framework: str, settings: dict, weights: Any, *inputs: Any) -> dict:
    """Every stage's results, each stage marked."""
    values = _module(framework).update(settings, weights, *inputs)
    # In an order of their own: JAX's functions give theirs sorted.
    stages: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        first = name.partition("/")[0]
        stage = next((s for s, own in STAGES.items() if first in own), "network")
        stages.setdefault(stage, {})[name.removeprefix(f"{first}/")] = value
    return {name: probe(name, stages[name]) for name in STAGES}


@functools.lru_cache
def _module(framework: str) -> Any:
    """A side's module; imported in a thread of its own, which is outside of a trace.

    A framework's first call may come from inside one, where agents refuse to be made.
    """
    with ThreadPoolExecutor(1) as pool:
        name = f"parity_tests.bridges.user_networks.{framework}_side"
        return pool.submit(importlib.import_module, name).result()


def agent_options(settings: dict[str, Any]) -> dict[str, Any]:
    """An agent's arguments, the same in both backends."""
    act_dim, distribution, action_sizes = settings["head"]
    return {
        "obs_dim": settings["obs_dim"], "act_dim": act_dim, "action_low": -1.0,
        "action_high": 1.0, "distribution": distribution,
        "action_sizes": tuple(action_sizes),
        "policy_layer_sizes": TRPOConfig.policy_layer_sizes,
        "critic_layer_sizes": LAYERS,
        **DEFAULTS,
    }  # fmt: skip
