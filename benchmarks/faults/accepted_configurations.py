"""Configurations that are not refused: each trains, evaluates and saves a run."""

import random
import re
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.checkpoints import scratch
from benchmarks.faults.row import Row, Scenario, require
from benchmarks.faults.runs import quiet
from examples.cost_environments import ENV_ID
from trpo.config.agent import BOOLS, COUNTS, POSITIVE, RANGES
from trpo.config.callbacks import CallbackConfig
from trpo.config.choices import choices_of
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.runs.directory import RunDirectory
from trpo.runs.evaluate import evaluate_run
from trpo.runs.train import train_run


ENVIRONMENTS = (
    "benchmarks.faults.runs:TrpoTorture/Walk-v0", "Pendulum-v1", "CartPole-v1",
    ENV_ID,
)  # fmt: skip
# Small enough to train in a moment, else as far out as a field allows.
AGENT: dict[str, tuple[Any, ...]] = {
    **choices_of(TRPOConfig),
    **dict.fromkeys(BOOLS, (False, True)),
    **dict.fromkeys(COUNTS, (0, 1, 2, 3, 17)),
    **dict.fromkeys(POSITIVE, (1e-30, 1e-12, 1e-3, 1.0, 10.0, 1e6, 1e30)),
    **{
        name: tuple(
            value
            for value in (low, low + 1e-12, 0.1, 0.5, 0.99, 1.0, 1e3, 1e30, high)
            if low <= value <= high and np.isfinite(value)
        )
        for name, (low, high) in RANGES.items()
    },
    "policy_layer_sizes": ((1,), (3, 2), (16,)),
    "critic_layer_sizes": ((1,), (3, 2), (16,)),
    "value_minibatch_size": (0, 1, 7, 10**9),
    "batch_chunk_size": (None, 2, 5, 10**9),
    "backtrack_coeff": (1e-12, 0.5, 0.999),
}
# Where steps cost something; elsewhere a run can't know it before its first step.
COSTLY = {"cost_limit": (None, 0.0, 5.0, 1e30)}
# Not `deterministic`, which would hold for the rest of the process.
RUN: dict[str, tuple[Any, ...]] = {
    "seed": (0, 1, 2**32, 2**63 - 1),
    "total_steps": (1, 48, 100),
    "num_envs": (1, 2, 5),
    "rollout_steps": (1, 2, 16, 33),
    "on_bad_data": ("stop", "drop"),
    "final_target_kl": (None, 1e-30, 1.0, 1e30),
    "final_value_lr": (None, 1e-30, 1.0, 1e30),
    "full_radius_advantage_std": (0.0, 1e-30, 1.0, 1e30),
    "normalize_observations": (False, True),
    "observation_clip": (1e-30, 1.0, 1e30),
    "scale_returns": (False, True),
    "eval_episodes": (0, 1, 2),
    "eval_interval": (0, 1, 2),
    "checkpoint_interval": (1, 2, 100),
    "keep_checkpoints": (1, 2),
}
CALLBACKS: dict[str, tuple[Any, ...]] = {
    "save_best": (False, True),
    "stop_at_return": (None, -1e30, 1e30),
}
# One of so many is trained by JAX, which compiles each anew.
EVERY_IN_JAX = 10


def _some(draw: random.Random, fields: dict[str, tuple[Any, ...]], most: int) -> dict:
    names = draw.sample(sorted(fields), draw.randint(0, min(most, len(fields))))
    return {name: draw.choice(fields[name]) for name in names}


def trained(row: Row) -> None:
    """Any plausible configuration: refused by name, or trained to the end."""
    draw, refused = random.Random(105), 0
    for index in range(row.tries):
        backend = "jax" if index % EVERY_IN_JAX == 0 else "torch"
        values = {"env_id": draw.choice(ENVIRONMENTS)} | _some(draw, RUN, 4)
        fields = AGENT | (COSTLY if values["env_id"] == ENV_ID else {})
        agent, callbacks = _some(draw, fields, 5), _some(draw, CALLBACKS, 1)
        with scratch() as root, row.attempt((backend, values, agent, callbacks)):
            try:
                made = _made(backend, values, agent, callbacks)
                train_run(made, root / "run", console=quiet())
            except ValueError as error:
                named = re.match("`([a-z_]+)", str(error))
                asked = values | agent | callbacks
                require(named and named[1] in asked, f"names no field: {error}")
                require(not (root / "run").exists(), "a refused run was begun")
                refused += 1
            else:
                _check(root / "run")
    row.note = f"{refused} refused by name"


def _made(backend: str, values: dict, agent: dict, callbacks: dict) -> TrainConfig:
    small: dict[str, Any] = {
        "policy_layer_sizes": (8,), "critic_layer_sizes": (8,), "value_epochs": 2
    }  # fmt: skip
    run: dict[str, Any] = {
        "backend": backend, "num_envs": 3, "rollout_steps": 16, "total_steps": 96,
        "eval_episodes": 1, "agent": TRPOConfig(**small | agent),
        "callbacks": CallbackConfig(**callbacks),
    }  # fmt: skip
    return TrainConfig(**run | values)


def _check(path: Path) -> None:
    """A run that has ended: all of it saved, finite, and able to act."""
    saved = RunDirectory(path).load()[0]
    for name, array in saved.arrays.items():
        finite = array.dtype.kind != "f" or np.isfinite(array).all()
        require(finite, f"{name} is not finite")
    result = evaluate_run(
        path, episodes=1, backend=None, device="cpu", seed=None,
        deterministic=False, video=None,
    )[0]  # fmt: skip
    require(np.isfinite(result.mean), "returns no number")


SCENARIOS = [
    Scenario("configuration", "any plausible values, trained", 1_000, trained, 50)
]
