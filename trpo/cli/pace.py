"""How fast an environment trains here, and with which vector of it.

Each choice is tried: whether environments in processes are worth it depends on their
step, on the machine and on what else runs there.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from trpo.common.terminal import Terminal
from trpo.config.presets import preset_config
from trpo.environments.environment_worker import EnvironmentWorkerError


MORE = 4
"""Times as many environments as the preset's are tried, too."""


class Pace(NamedTuple):
    """What one iteration took.

    Attributes:
        num_envs: environments.
        vectorization: how they are stepped.
        stepping: seconds of a step of all of them.
        acting: seconds of the agent's part of it.
        learning: seconds of an update.
        speed: environment steps a second, in all.
    """

    num_envs: int
    vectorization: str
    stepping: float
    acting: float
    learning: float
    speed: float


class Clock:
    """Sums the `seconds` spent in a method, which goes on doing what it did."""

    def __init__(self, owner: Any, name: str) -> None:
        self.seconds = 0.0
        inner = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start

        setattr(owner, name, timed)


def measured(env_id: str, backend: Any, num_envs: int, vectorization: Any) -> Pace:
    """Train by the environment's preset, of as many samples an update, two iterations.

    Raises:
        ValueError: it can't be stepped so.
        EnvironmentWorkerError: an environment failed.
    """
    from trpo.training.trainer import Trainer

    preset = preset_config(env_id, backend=backend)
    steps = max(1, preset.num_envs * preset.rollout_steps // num_envs)
    config = preset_config(
        env_id, backend=backend, num_envs=num_envs, rollout_steps=steps,
        vectorization=vectorization,
    )  # fmt: skip
    with Trainer(config) as trainer:
        trainer.train_once()  # Compiles.
        stepping = Clock(trainer.env, "step")
        start = time.perf_counter()
        metrics = trainer.train_once().metrics
        whole = time.perf_counter() - start
        speed = trainer.steps_per_update / whole
    stepped, learning = stepping.seconds / steps, metrics["time/learning_seconds"]
    acting = (whole - learning) / steps - stepped
    return Pace(num_envs, vectorization, stepped, acting, learning, speed)


def report(env_id: str, backend: str, terminal: Terminal | None = None) -> Pace:
    """Try all choices, print what they take, and recommend the fastest.

    Raises:
        ValueError: there is no such environment, or its preset can't train in it.
    """
    terminal = terminal or Terminal()
    count = preset_config(env_id, backend=backend).num_envs  # pyright: ignore[reportArgumentType]
    terminal.say(f"{env_id} with {backend} and its preset, by --num-envs and vector:")
    found: list[Pace] = []
    for vectorization in ("sync", "async", "envpool"):
        for num_envs in (count, MORE * count):
            try:
                pace = measured(env_id, backend, num_envs, vectorization)
            except (ValueError, EnvironmentWorkerError):
                if vectorization == "sync":
                    raise
                continue  # EnvPool has not all; nor can all live in a process.
            found.append(pace)
            terminal.say(_line(pace))
    best = fastest(found)
    terminal.say(
        [(f"--num-envs {best.num_envs} --vectorization {best.vectorization}", "bold"),
         f": about {best.speed:,.0f} steps/s."]
    )  # fmt: skip
    terminal.say("More environments learn differently, too: compare returns.")
    return best


def fastest(found: Sequence[Pace]) -> Pace:
    """The pace to recommend: another than the first has to be worth a change."""
    best = max(found, key=lambda pace: pace.speed)
    return best if best.speed > 1.1 * found[0].speed else found[0]


def _line(pace: Pace) -> str:
    return (
        f"  {pace.num_envs:4} {pace.vectorization:8} "
        f"env {1e6 * pace.stepping:,.0f} µs + agent {1e6 * pace.acting:,.0f} µs "
        f"a step, update {1e3 * pace.learning:,.0f} ms: {pace.speed:,.0f} steps/s"
    )
