"""Faults of environments: an error with index, phase and traceback, and no orphans."""

import functools
import os
from typing import Any
from unittest import mock

import numpy as np
from gymnasium.vector import VectorEnv

from benchmarks.faults.faulty_environment import BREACHES, make
from benchmarks.faults.row import Row, Scenario, require
from trpo.environments import worker_vector as worker_environments
from trpo.environments.environment_worker import EnvironmentWorkerError
from trpo.environments.process_workers import ProcessWorkers
from trpo.environments.sync_vector import LeanVectorEnv
from trpo.environments.worker_vector import RESTARTED, WorkerVectorEnv
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.transitions import NonFiniteTransitionError


SIZE, BAD = 3, 1
# Seconds: what an environment that hangs is given, beside which others have to answer;
# and what a busy machine needs to start processes, which only a hang takes longer for.
TIMEOUT, PATIENCE = 5.0, 300.0
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
    """Remembers the processes it started; waits no longer than it has to.

    Args:
        makers: See `WorkerVectorEnv`.
        kind: What goes wrong.
        phase: When.
    """

    last: list[int]

    def __init__(self, makers: list, kind: str, phase: str = "", **more: Any) -> None:
        _Watched.last = []
        workers = _WatchedProcesses(makers, PATIENCE)
        # Starting processes is not answering, but where that is what hangs.
        timeout = _patience(kind) if phase == "constructor" else PATIENCE
        super().__init__(makers, workers, timeout=timeout, **more)
        self._timeout = _patience(kind)


def _patience(kind: str) -> float:
    """Seconds to wait for an answer."""
    return TIMEOUT if kind in ("hanging", "stopped") else PATIENCE


class _WatchedProcesses(ProcessWorkers):
    def start(self, index: int) -> None:
        super().start(index)
        _Watched.last.append(self.pid(index))


def _play(env: VectorEnv, steps: int = 25) -> list:
    env.reset()
    return [env.step(ACTIONS) for _ in range(steps)]


def fails(kind: str, phase: str) -> Any:
    """The fault ends in the right error, and leaves no process."""

    def run(row: Row) -> None:
        _Watched(_makers("", ""), "").close()  # The fork server starts slowly.
        for index in range(row.tries):
            with row.attempt(index):
                _fails_once(kind, phase)

    return run


def _fails_once(kind: str, phase: str) -> None:
    env, timed_out = None, _patience(kind) < PATIENCE
    # To close has a limit of its own, within which the others have to.
    seconds = TIMEOUT if phase == "close" else worker_environments.CLOSE_SECONDS
    with mock.patch.object(worker_environments, "CLOSE_SECONDS", seconds):
        try:
            env = _Watched(_makers(kind, phase), kind, phase)
            _play(env)
            env.close()
            require(False, "no error")
        except EnvironmentWorkerError as error:
            require((error.index, error.phase) == (BAD, phase), f"it said {error}")
            late = "no answer within" in error.reason
            require(late == timed_out, f"it said {error.reason}")
            if kind in ("raise", "custom exception"):
                planted = "planted in" in error.original
                require(planted and "Traceback" in error.original, "no traceback")
            if kind in ("wrong shape", "wrong dtype", *BREACHES):
                what = "" if kind in BREACHES else "`obs`: expected an observation"
                named = "expected" in error.reason and what in error.reason
                require(named and error.step == 3, f"it said {error}")
        if env is not None:
            env.close()
    require(not alive(_Watched.last), "a process was left")


def breaks_the_contract(row: Row) -> None:
    """What is not as Gymnasium says is named with its environment and its step."""
    for index in range(row.tries):
        kind = list(BREACHES)[index // 2 % len(BREACHES)]
        with row.attempt(kind):
            if index % 2:
                _fails_once(kind, "step")
                continue
            try:
                _play(LeanVectorEnv(_makers(kind, "step")))
                require(False, "no error")
            except EnvironmentWorkerError as error:
                place = (error.index, error.phase, error.step)
                require(place == (BAD, "step", 3), f"it said {error}")
                require("expected" in error.reason, f"it said {error}")


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
                env = _Watched(_makers(kind, "step"), kind)
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
                env = _Watched(_makers(kind, "step"), kind, max_restarts=2)
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

    def sample_actions(self, obs: np.ndarray, *_: object) -> np.ndarray:
        """Zeros."""
        return np.zeros((len(obs), 1))

    def host_policy(self, _: int) -> None:
        """None: `sample_actions` acts."""

    def evaluate_actions(self, obs: np.ndarray, *_: object) -> tuple:
        """Zeros."""
        return (np.zeros((len(obs), 1)),) * 2

    def value(self, obs: np.ndarray) -> np.ndarray:
        """Zeros."""
        return np.zeros((len(obs), 1))


PHASES = ("constructor", "reset", "step", "close")
SCENARIOS = [
    *(Scenario("environment", f"raises in {p}", 20, fails("raise", p)) for p in PHASES),
    Scenario("environment", "custom exception", 20, fails("custom exception", "step")),
    Scenario("environment", "killed", 20, fails("killed", "step")),
    Scenario("environment", "stopped", 10, fails("stopped", "step")),
    *(Scenario("environment", f"hangs in {p}", 5, fails("hanging", p)) for p in PHASES),
    Scenario("environment", "wrong shape", 20, fails("wrong shape", "step")),
    Scenario("environment", "wrong dtype", 20, fails("wrong dtype", "step")),
    Scenario("environment", "breaks Gymnasium's contract", 32, breaks_the_contract, 16),
    Scenario("environment", "raises in step, in process", 50, in_process("step")),
    Scenario("environment", "raises in close, in process", 50, in_process("close")),
    Scenario("environment", "slow", 10, harmless("slow")),
    Scenario("environment", "reused buffer", 20, harmless("reused buffer")),
    Scenario("environment", "huge infos", 5, harmless("huge infos")),
    Scenario("environment", "killed, and replaced", 20, replaced("killed")),
    Scenario("environment", "hangs, and is replaced", 5, replaced("hanging")),
    Scenario("environment", "NaN observation", 50, named_nan),
]
