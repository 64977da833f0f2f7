"""A process that steps a share of a vector of environments, and how to talk to it."""

import contextlib
import multiprocessing
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv


Maker = Callable[[], gymnasium.Env]

# Commands to a worker.
MAKE, STEP, RESET, CLOSE = range(4)
# How long to poll before going to sleep: a core that sleeps takes longer to wake than
# an environment to step, but must not be kept from an update, which takes longer.
POLL_SECONDS = 1e-3
# How many times to sleep at once after a poll in vain.
SLEEPS = 16
# How often one who sleeps looks whether the other process is still there.
LOOK_SECONDS = 1.0
CLOSE_SECONDS = 5.0


class WorkerDiedError(RuntimeError):
    """A process that steps environments ended by itself."""


class LeanVectorEnv(SyncVectorEnv):
    """Gymnasium's, in autoreset mode SAME_STEP, with final observations as only infos.

    Collecting the others takes a tenth of a step of HalfCheetah-v5.

    Args:
        makers: Make one environment each.
    """

    def __init__(self, makers: Sequence[Maker]) -> None:
        super().__init__(makers, autoreset_mode=AutoresetMode.SAME_STEP)

    def _add_info(
        self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int
    ) -> dict[str, Any]:
        if "final_obs" not in env_info:
            return vector_infos
        final = {"final_obs": env_info["final_obs"]}
        return super()._add_info(vector_infos, final, env_num)


class Board(NamedTuple):
    """What all processes read and write; rows are environments."""

    actions: np.ndarray
    obs: np.ndarray
    final_obs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class Memory:
    """Shared memory of a `Board`, which can be sent to a new process."""

    def __init__(self, context: Any, envs: SyncVectorEnv, num_envs: int) -> None:
        action, obs = envs.single_action_space, envs.single_observation_space
        fields = {
            "actions": (action.shape, action.dtype),
            "obs": (obs.shape, obs.dtype),
            "final_obs": (obs.shape, obs.dtype),
            "rewards": ((), np.float64),
            "terminated": ((), np.bool_),
            "truncated": ((), np.bool_),
        }
        self._parts = {}
        for name, (shape, dtype) in fields.items():
            whole, dtype = (num_envs, *(shape or ())), np.dtype(dtype)
            size = max(1, int(np.prod(whole)) * dtype.itemsize)
            self._parts[name] = (context.RawArray("b", size), whole, dtype)

    def board(self, part: slice) -> Board:
        """Arrays of the environments in `part`, over the shared memory."""
        arrays = {
            name: np.frombuffer(raw, dtype, int(np.prod(shape))).reshape(shape)[part]
            for name, (raw, shape, dtype) in self._parts.items()
        }
        return Board(**arrays)


def step_on_board(envs: LeanVectorEnv, board: Board) -> None:
    """Step the environments by the board's actions, and put on it what they answer."""
    # A copy: an environment may keep the action.
    obs, rewards, terminated, truncated, infos = envs.step(board.actions.copy())
    board.obs[:] = obs
    board.rewards[:] = rewards
    board.terminated[:] = terminated
    board.truncated[:] = truncated
    for i in np.flatnonzero(infos.get("_final_obs", ())):
        board.final_obs[i] = infos["final_obs"][i]


class _Waiter:
    """Waits for another process to release a semaphore: polls first, then sleeps.

    After a poll in vain it sleeps at once for the next few times: where there are more
    busy processes than cores, to poll is to keep the other one from its work.

    Args:
        semaphore: What to wait for.
        is_alive: Whether the process that is to release it still lives.
    """

    def __init__(self, semaphore: Any, is_alive: Callable[[], bool]) -> None:
        self._semaphore, self._is_alive = semaphore, is_alive
        self._sleeps = 0

    def wait(self) -> bool:
        """Take the semaphore; False if the process that is to release it has died."""
        acquire = self._semaphore.acquire
        if self._sleeps:
            self._sleeps -= 1
        else:
            deadline = time.perf_counter() + POLL_SECONDS
            while time.perf_counter() < deadline:
                if acquire(False):
                    return True
            self._sleeps = SLEEPS
        while not acquire(True, LOOK_SECONDS):
            if not self._is_alive():
                return acquire(False)
        return True


def _sendable(error: Exception) -> Exception:
    """`error` with its traceback as a note, or what can be sent to a process of it."""
    trace = "".join(traceback.format_exception(error))
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(repr(error))
    error.add_note(f"In the process that steps it:\n{trace}")
    return error


class _Link(NamedTuple):
    """What the main process and a worker have in common, beside the board."""

    command: Any
    failed: Any
    go: Any
    done: Any


def _work(
    makers: Sequence[Maker], memory: Memory, part: slice, link: _Link, pipe: Connection
) -> None:
    """A worker's life: make environments, then do what it is told until the end."""
    # Ctrl-C reaches every process of a terminal; the main one says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent, board, envs = multiprocessing.parent_process(), memory.board(part), None
    assert parent is not None
    waiter, command = _Waiter(link.go, parent.is_alive), MAKE
    while command != CLOSE:
        failure = None
        try:
            if envs is None:
                envs = LeanVectorEnv(makers)
            elif command == STEP:
                step_on_board(envs, board)
            else:
                seeds, options = pipe.recv()
                board.obs[:] = envs.reset(seed=seeds, options=options)[0]
        except Exception as error:  # The main process raises it.
            failure = _sendable(error)
            link.failed.value = True
        link.done.release()
        if failure is not None:
            pipe.send(failure)
        command = link.command.value if waiter.wait() else CLOSE
    if envs is not None:
        envs.close()


class Worker:
    """The main process's end of a worker.

    Args:
        context: How processes are started.
        makers: Make all environments of the vector, of which this one takes a part.
        memory: The board's.
        part: Which environments.
    """

    def __init__(
        self, context: Any, makers: Sequence[Maker], memory: Memory, part: slice
    ) -> None:
        self.part = part
        self._link = _Link(
            context.RawValue("b", STEP),
            context.RawValue("b", False),
            context.Semaphore(0),
            context.Semaphore(0),
        )
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_work,
            args=(makers[part], memory, part, self._link, other),
            name=f"environments {part.start} to {part.stop - 1}",
            daemon=True,
        )
        self._process.start()
        self._waiter = _Waiter(self._link.done, self._process.is_alive)
        other.close()

    def begin(self, command: int, *message: Any) -> None:
        """Tell the worker to do something."""
        self._link.command.value = command
        self._link.go.release()
        if message:
            # After that: a long one is sent only as fast as it is received. One to a
            # worker that has died is reported by `finish`.
            with contextlib.suppress(OSError):
                self._pipe.send(message)

    def finish(self) -> Exception | None:
        """Wait until it is done; what went wrong."""
        if not self._waiter.wait():
            return WorkerDiedError(
                f"The process of {self._process.name} ended by itself, with exit code "
                f"{self._process.exitcode}. Out of memory? Fewer environments, or "
                "vectorization 'sync', may help."
            )
        if not self._link.failed.value:
            return None
        self._link.failed.value = False
        return self._pipe.recv()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.begin(CLOSE)
        self._process.join(CLOSE_SECONDS)
        self._process.kill()
        self._process.join()
        self._pipe.close()
