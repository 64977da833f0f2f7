"""Seconds of a step of environments in processes: ours, and Gymnasium's own vector.

    python -m benchmarks.scale.vectors --publish

Both hold the same environments, with seeded episodes that reset in the same step, and
are sent the same actions. They take turns, each time in processes of their own. Beside
the seconds stands what becomes of the program when a worker is killed or hangs.
"""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv
from rich.console import Console

from benchmarks.command import Output, run_command
from benchmarks.csv_files import write_csv
from trpo.environments.make import make_environment, make_vector_environment


HEADER = ("environment", "environments", "ours us", "Gymnasium us", "ours over "
          "Gymnasium", "least", "most")  # fmt: skip
WARM_UP, TIMEOUT, WAIT = 20, 2.0, 10.0


@dataclasses.dataclass
class Arguments(Output):
    """Time both vectors in turns, and attack both."""

    env_ids: tuple[str, ...] = ("Pendulum-v1", "HalfCheetah-v5")
    """Environments."""
    num_envs: tuple[int, ...] = (2, 8)
    """Environments of a vector, each in a process."""
    rounds: int = 5
    """Pairs of vectors, one of each kind."""
    steps: int = 500
    """Of each vector in a round."""


class Hanging(gymnasium.Wrapper):
    """Never returns from its third step."""

    taken = 0

    def step(self, action: Any) -> Any:
        """Gymnasium's, twice."""
        self.taken += 1
        while self.taken > 2:
            time.sleep(1.0)
        return super().step(action)


def hanging() -> gymnasium.Env:
    """An environment whose third step never returns."""
    return Hanging(gymnasium.make("Pendulum-v1"))


def ours(env: Any, size: int) -> VectorEnv:
    """The workers of `--vectorization async`."""
    return make_vector_environment(
        env, size, seed=1, vectorization="async", timeout=TIMEOUT
    )


def gymnasiums(env: Any, size: int) -> VectorEnv:
    """`AsyncVectorEnv` of the same environments, which are not forked either."""
    makers = [
        functools.partial(make_environment, env, seed=1, env_index=index)
        for index in range(size)
    ]
    mode = AutoresetMode.SAME_STEP
    return AsyncVectorEnv(makers, context="forkserver", autoreset_mode=mode)


VECTORS = {"ours": ours, "Gymnasium": gymnasiums}


def seconds(make: Callable[[], VectorEnv], steps: int) -> float:
    """Mean seconds of a step of random actions."""
    env = make()
    env.action_space.seed(3)
    env.reset()
    actions = [env.action_space.sample() for _ in range(steps + WARM_UP)]
    for action in actions[:WARM_UP]:
        env.step(action)
    start = time.perf_counter()
    for action in actions[WARM_UP:]:
        env.step(action)
    taken = (time.perf_counter() - start) / steps
    env.close()
    return taken


def attacked(make: Callable[[], VectorEnv], kill: bool) -> str:
    """What a step says when a worker was killed, or hangs.

    Asked in a thread, which a vector that waits for ever does not give back.
    """
    before = set(multiprocessing.active_children())
    env = make()
    env.reset()
    actions, said = np.zeros((2, 1), np.float32), ["waits for ever"]
    env.step(actions)
    workers = sorted(set(multiprocessing.active_children()) - before, key=str)
    if kill:
        os.kill(workers[-1].pid or 0, signal.SIGKILL)
        time.sleep(0.2)

    def step() -> None:
        try:
            env.step(actions)
            env.step(actions)
        except Exception as error:
            said[0] = f"{type(error).__name__}: {error}"

    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    thread.join(WAIT)
    env.closed = True  # Or the end of the program waits for what hangs.
    for worker in workers:
        with contextlib.suppress(ValueError):  # Ours has ended it.
            worker.kill()
    return " ".join(said[0].split())


def compare(env_id: str, size: int, arguments: Arguments) -> tuple[str, ...]:
    """A row: ratios are of neighbours in time."""
    pairs = [
        [
            seconds(functools.partial(make, env_id, size), arguments.steps)
            for make in VECTORS.values()
        ]
        for _ in range(arguments.rounds)
    ]
    ratios = [mine / theirs for mine, theirs in pairs]
    medians = [1e6 * statistics.median(column) for column in zip(*pairs, strict=True)]
    of_ratios = (statistics.median(ratios), min(ratios), max(ratios))
    return (
        env_id, str(size), *(f"{x:.0f}" for x in medians),
        *(f"{x:.2f}" for x in of_ratios),
    )  # fmt: skip


def main(arguments: Arguments) -> None:
    """Time, attack, print, and write both tables."""
    console = Console(highlight=False, soft_wrap=True)
    cells = [(env, n) for env in arguments.env_ids for n in arguments.num_envs]
    times = [compare(*cell, arguments) for cell in cells]
    answers = [
        (fault, name, attacked(functools.partial(make, env, 2), kill))
        for fault, env, kill in (
            ("killed", "Pendulum-v1", True),
            ("hangs", hanging, False),
        )
        for name, make in VECTORS.items()
    ]
    folder = arguments.folder("scale")
    folder.mkdir(parents=True, exist_ok=True)
    said = ("a worker", "vector", "a step then")
    for name, header, rows in (
        ("vectors.csv", HEADER, times), ("vectors-attacked.csv", said, answers)
    ):  # fmt: skip
        for row in (header, *rows):
            console.print(", ".join(row))
        write_csv(folder / name, header, rows)


if __name__ == "__main__":
    run_command(main, Arguments)
