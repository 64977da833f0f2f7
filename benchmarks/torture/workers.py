"""Faults of environments: an error with index, phase and traceback, and no orphans."""

import functools
import os
import time
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from benchmarks.torture.faulty import make
from benchmarks.torture.rows import Row, Scenario, require
from trpo.environment_worker import EnvironmentWorkerError
from trpo.lean_environment import LeanVectorEnv
from trpo.rollout import RolloutCollector
from trpo.transitions import NonFiniteTransitionError
from trpo.worker_environments import RESTARTED, WorkerVectorEnv
from trpo.worker_processes import ProcessWorkers


TIMEOUT, SIZE, BAD = 1.5, 3, 1
ACTIONS = np.zeros((SIZE, 1), dtype=np.float32)


def _makers(kind: str, phase: str) -> list:
    return [
        functools.partial(make, *((kind, phase) if i == BAD else ("", "")), i)
        for i in range(SIZE)
    ]


def alive(pids: list[int]) -> list[int]:
    """Those that have not ended."""
    found = []
    for pid in pids:
        try:
            os.kill(pid, 0)
            found.append(pid)
        except OSError:
            continue
    return found


class _Watched(WorkerVectorEnv):
    """Remembers the processes it started."""

    last: list[int]

    def __init__(self, makers: list, timeout: float, **options: Any) -> None:
        _Watched.last = []
        workers = _WatchedProcesses(makers, timeout)
        super().__init__(makers, workers, timeout=timeout, **options)


class _WatchedProcesses(ProcessWorkers):
    def start(self, index: int) -> None:
        super().start(index)
        _Watched.last.append(self.pid(index))


def _play(env: VectorEnv, steps: int = 25) -> list:
    env.reset()
    return [env.step(ACTIONS) for _ in range(steps)]


def fails(kind: str, phase: str, timeout: float = TIMEOUT) -> Any:
    """The fault ends in the right error, in time, and leaves no process."""

    def run(row: Row) -> None:
        for index in range(row.tries):
            with row.attempt(index):
                _fails_once(kind, phase, timeout)

    return run


def _fails_once(kind: str, phase: str, timeout: float) -> None:
    start, env = time.perf_counter(), None
    try:
        env = _Watched(_makers(kind, phase), timeout=timeout)
        start = time.perf_counter()  # Starting processes is not answering.
        _play(env)
        closing = time.perf_counter()
        env.close()
        require(False, "no error")
    except EnvironmentWorkerError as error:
        closing = time.perf_counter()
        require((error.index, error.phase) == (BAD, phase), f"it said {error}")
        if kind in ("raise", "custom exception", "wrong shape", "wrong dtype"):
            marks = ("planted in", "expected an observation")
            found = any(mark in error.original for mark in marks)
            require(found and "Traceback" in error.original, "no original traceback")
    limit = 2.0 if phase == "close" else timeout + 2.5
    require(
        closing - start < limit + 5.0 * (phase == "constructor"), "it took too long"
    )
    if env is not None:
        before = time.perf_counter()
        env.close()
        require(time.perf_counter() - before < 2.0, "close took more than 2 s")
    require(not alive(_Watched.last), "a process was left")


def in_process(phase: str) -> Any:
    """The same error from an environment of this process."""

    def run(row: Row) -> None:
        for index in range(row.tries):
            with row.attempt(index):
                kind = ("raise", "custom exception")[index % 2]
                env = LeanVectorEnv(_makers(kind, phase))
                try:
                    _play(env)
                    env.close()
                except EnvironmentWorkerError as error:
                    require((error.index, error.phase) == (BAD, phase), str(error))
                    require("planted in" in error.original, "no original traceback")
                else:
                    require(False, "no error")

    return run


def harmless(kind: str) -> Any:
    """What only looks like a fault changes nothing."""

    def run(row: Row) -> None:
        plain = LeanVectorEnv(_makers("", ""))
        wanted = _play(plain)
        for index in range(row.tries):
            with row.attempt(index):
                env = _Watched(_makers(kind, "step"), timeout=TIMEOUT)
                got = _play(env)
                env.close()
                for left, right in zip(wanted, got, strict=True):
                    for a, b in zip(left[:4], right[:4], strict=True):
                        require(np.array_equal(a, b), "other numbers")
                require(not alive(_Watched.last), "a process was left")

    return run


def replaced(kind: str) -> Any:
    """A worker that fails is replaced, its step is cut off and counted."""

    def run(row: Row) -> None:
        for index in range(row.tries):
            with row.attempt(index):
                env = _Watched(_makers(kind, "step"), timeout=TIMEOUT, max_restarts=2)
                env.reset()
                for count in range(1, 5):
                    obs, _, _, truncated, infos = env.step(ACTIONS)
                    failed = infos.get(RESTARTED, np.zeros(SIZE, dtype=bool))
                    wanted = np.arange(SIZE) == BAD if count == 3 else np.zeros(SIZE)
                    require((failed == wanted).all(), f"{failed} at step {count}")
                    require((truncated == wanted).all(), f"{truncated}")
                    require(np.isfinite(obs).all(), "not finite")
                env.close()
                require(not alive(_Watched.last), "a process was left")

    return run


def named_nan(row: Row) -> None:
    """A NaN is named with its environment and step."""
    for index in range(row.tries):
        with row.attempt(index):
            env = LeanVectorEnv(_makers("NaN", "step"))
            try:
                RolloutCollector(env).collect(Idle(), 9)  # pyright: ignore
                require(False, "no error")
            except NonFiniteTransitionError as error:
                named = "environment 1 at step 2" in str(error)
                require(named, f"it said {error}")


class Idle:
    """An agent that does nothing."""

    def act(self, obs: np.ndarray, deterministic: bool = False) -> tuple:
        """Zeros."""
        return (np.zeros((len(obs), 1)),) * 3

    def value(self, obs: np.ndarray) -> np.ndarray:
        """Zeros."""
        return np.zeros((len(obs), 1))


PHASES = ("constructor", "reset", "step", "close")
SCENARIOS = [
    *(Scenario("environment", f"raises in {p}", 20, fails("raise", p)) for p in PHASES),
    Scenario("environment", "custom exception", 20, fails("custom exception", "step")),
    Scenario("environment", "killed", 20, fails("killed", "step")),
    Scenario("environment", "stopped", 10, fails("stopped", "step")),
    # The others need time to start, which counts as being made.
    Scenario(
        "environment", "hangs in constructor", 5, fails("hanging", "constructor", 6.0)
    ),
    *(
        Scenario("environment", f"hangs in {p}", 5, fails("hanging", p))
        for p in PHASES[1:]
    ),
    Scenario("environment", "wrong shape", 20, fails("wrong shape", "step")),
    Scenario("environment", "wrong dtype", 20, fails("wrong dtype", "step")),
    Scenario("environment", "raises in step, in process", 50, in_process("step")),
    Scenario("environment", "raises in close, in process", 50, in_process("close")),
    Scenario("environment", "slow", 10, harmless("slow")),
    Scenario("environment", "reused buffer", 20, harmless("reused buffer")),
    Scenario("environment", "huge infos", 5, harmless("huge infos")),
    Scenario("environment", "killed, and replaced", 20, replaced("killed")),
    Scenario("environment", "hangs, and is replaced", 5, replaced("hanging")),
    Scenario("environment", "NaN observation", 50, named_nan),
]
