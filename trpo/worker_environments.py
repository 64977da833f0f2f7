"""A vector of environments in processes of their own, none of which can stop the rest.

Gymnasium's own waits for ever on a worker that hangs or was killed, also in `close`.
"""

import multiprocessing
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import CloudpickleWrapper, batch_space, iterate

from trpo.environment_worker import (
    CLOSE,
    CONSTRUCTOR,
    RESET,
    STEP,
    EnvironmentWorkerError,
    serve,
)
from trpo.seeded_episodes import RESTORE


RESTARTED = "restarted"
"""Info of a step: [B] where a worker failed and another took its place."""
CLOSE_SECONDS = 1.0
"""What workers are given to close their environments, before they are killed."""


class WorkerVectorEnv(VectorEnv):
    """Environments of seeded episodes, each in a process, resetting in the same step.

    Args:
        makers: Make one environment with seeded episodes each; picklable.
        timeout: Seconds that a worker has to answer.
        max_restarts: Workers that may fail in a step and be replaced. A new one starts
            the next episode; the step is reported as truncated, with the info
            `RESTARTED`, and is no transition.

    Raises:
        EnvironmentWorkerError: a worker raised, ended or did not answer; no process
            is left.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], gymnasium.Env]],
        *,
        timeout: float = 60.0,
        max_restarts: int = 0,
    ) -> None:
        methods = multiprocessing.get_all_start_methods()
        # Never forked from this process: JAX's threads would deadlock in a worker.
        method = "forkserver" if "forkserver" in methods else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        self._context.set_forkserver_preload(["trpo.environments"])
        self._makers = [CloudpickleWrapper(maker) for maker in makers]
        self.num_envs = len(makers)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._timeout, self._restarts_left = timeout, max_restarts
        self._selector = selectors.DefaultSelector()
        self._processes: list[Any] = [None] * self.num_envs
        self._pipes: list[Any] = [None] * self.num_envs
        self._episodes = [-1] * self.num_envs
        self._ticket = 0
        try:
            for index in range(self.num_envs):
                self._start(index)
            spaces = self._gather(range(self.num_envs), CONSTRUCTOR)
        except BaseException:
            self._stop()
            raise
        self.single_observation_space, self.single_action_space = spaces[0]
        self.observation_space = batch_space(spaces[0][0], self.num_envs)
        self.action_space = batch_space(spaces[0][1], self.num_envs)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset all environments, or those of `options["reset_mask"]` [B].

        Seeds are the environments' own affair: `seed` is ignored.
        """
        options = dict(options or {})
        mask = options.pop("reset_mask", np.ones(self.num_envs, dtype=bool))
        chosen = [int(index) for index in np.flatnonzero(mask)]
        restored = options.get(RESTORE, {})
        for index in chosen:
            number = restored.get(index, (self._episodes[index] + 1,))[0]
            self._episodes[index] = number
        arguments = {index: {"options": options} for index in chosen}
        answers = self._ask(RESET, arguments)
        infos: dict[str, Any] = {}
        if len(chosen) == self.num_envs:
            self._obs: list[Any] = [None] * self.num_envs
        for index in chosen:
            self._obs[index], info = answers[index]
            infos = self._add_info(infos, info, index)
        return self._stacked(), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any]:  # pyright: ignore
        """One step of all environments; those that end are reset."""
        arguments = dict(enumerate(iterate(self.action_space, actions)))
        answers = self._ask(STEP, arguments)
        infos: dict[str, Any] = {}
        rewards = np.zeros(self.num_envs)
        ended = np.zeros((2, self.num_envs), dtype=bool)
        for index in range(self.num_envs):
            self._obs[index], rewards[index], *flags, info = answers[index]
            ended[:, index] = flags
            self._episodes[index] += bool(ended[:, index].any())
            infos = self._add_info(infos, info, index)
        return self._stacked(), rewards, ended[0], ended[1], infos  # pyright: ignore

    def close_extras(self, **_: Any) -> None:
        """Close all environments and end their processes, within two seconds.

        Raises:
            EnvironmentWorkerError: one raised as it was closed; all have ended.
        """
        self._stop(report=True)

    def _stacked(self) -> np.ndarray:
        return np.stack(self._obs).astype(self.single_observation_space.dtype)

    def _ask(self, command: str, arguments: dict[int, Any]) -> dict[int, Any]:
        """Send a command, and wait for the answers.

        Raises:
            EnvironmentWorkerError: one failed and may not be replaced; no process is
                left.
        """
        if self.closed:
            index = min(arguments)
            reason = "the environments have been closed"
            raise EnvironmentWorkerError(index, command, reason)
        self._ticket += 1
        dead = []
        for index, argument in arguments.items():
            try:
                self._pipes[index].send((self._ticket, command, argument))
            except OSError:
                dead.append(index)
        answers = self._gather([i for i in arguments if i not in dead], command, dead)
        for index in [i for i, answer in answers.items() if _failed(answer)]:
            error = answers[index]
            if command != STEP or self._restarts_left == 0:
                self._stop()
                raise error
            answers[index] = self._replaced(index)
        return answers

    def _gather(
        self, indices: Iterable[int], phase: str, dead: Sequence[int] = ()
    ) -> dict[int, Any]:
        """Answers, or errors, of these workers by index; of `dead` ones errors.

        Raises:
            EnvironmentWorkerError: a constructor failed.
        """
        waiting = set(indices)
        answers: dict[int, Any] = {i: self._ended(i, phase) for i in dead}
        deadline = time.monotonic() + self._timeout
        while waiting:
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                reason = f"no answer within {self._timeout:g} s"
                late = {i: EnvironmentWorkerError(i, phase, reason) for i in waiting}
                answers |= late
                break
            for index in [key.data for key, _ in ready]:
                if (answer := self._received(index, phase)) is not None:
                    # One that has answered may end, which is no answer.
                    if index in waiting:
                        answers[index] = answer[0]
                    waiting.discard(index)
        if phase == CONSTRUCTOR:
            for error in filter(_failed, (answers[i] for i in sorted(answers))):
                raise error
        return answers

    def _received(self, index: int, phase: str) -> tuple | None:
        """The answer that has come, or an error, as (it,); None if it is stale."""
        try:
            ticket, error, value = self._pipes[index].recv()
        except (EOFError, OSError):
            self._selector.unregister(self._pipes[index])
            return (self._ended(index, phase),)
        # An older answer is one that an interrupted call did not wait for.
        if ticket == self._ticket or error is not None:
            return (value if error is None else error,)
        return None

    def _ended(self, index: int, phase: str) -> EnvironmentWorkerError:
        process = self._processes[index]
        process.join(1.0)
        code = process.exitcode
        how = f"was killed by signal {-code}" if code and code < 0 else "ended"
        return EnvironmentWorkerError(index, phase, f"its process {how}")

    def _start(self, index: int) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve,
            args=(theirs, self._makers[index], index),
            daemon=True,
            name=f"environment-{index}",
        )
        process.start()
        theirs.close()
        _bound(ours, self._timeout)
        self._processes[index], self._pipes[index] = process, ours
        self._selector.register(ours, selectors.EVENT_READ, index)

    def _replaced(self, index: int) -> tuple:
        """What a step is of a worker that failed, and has been replaced.

        Raises:
            EnvironmentWorkerError: the new one failed too; no process is left.
        """
        self._restarts_left -= 1
        try:
            self._end(index)
            self._start(index)
            self._ticket, ticket = 0, self._ticket
            self._gather([index], CONSTRUCTOR)
            self._ticket = ticket + 1
            # The one that `step` counts on to.
            episode = (self._episodes[index] + 1, ())
            argument = {"options": {RESTORE: {index: episode}}}
            self._pipes[index].send((self._ticket, RESET, argument))
            answer = self._gather([index], RESET)[index]
            if _failed(answer):
                raise answer
        except BaseException:
            self._stop()
            raise
        obs, info = answer
        info |= {"final_obs": np.zeros_like(obs), RESTARTED: True}
        return obs, 0.0, False, True, info

    def _end(self, index: int) -> None:
        """Kill a worker and forget its pipe."""
        process, pipe = self._processes[index], self._pipes[index]
        if process is None:
            return
        process.kill()
        process.join()
        if pipe.fileno() in self._selector.get_map():
            self._selector.unregister(pipe)
        pipe.close()
        process.close()
        self._processes[index] = None

    def _stop(self, report: bool = False) -> None:
        """Have all environments closed if they can be, and end every process.

        Raises:
            EnvironmentWorkerError: with `report`, one raised as it was closed.
        """
        self._ticket += 1
        self._timeout = CLOSE_SECONDS
        living = [i for i, p in enumerate(self._processes) if p and p.is_alive()]
        asked = []
        for index in living:
            try:
                self._pipes[index].send((self._ticket, CLOSE, None))
                asked.append(index)
            except OSError:
                continue
        answers = self._gather(asked, CLOSE)
        for index in range(self.num_envs):
            self._end(index)
        self._selector.close()
        self.closed = True
        for error in filter(_failed, answers.values() if report else ()):
            raise error


def _failed(answer: Any) -> bool:
    return isinstance(answer, EnvironmentWorkerError)


def _bound(pipe: Connection, seconds: float) -> None:
    """Have no read or write of a pipe's socket wait longer than this.

    A worker may be stopped in the middle of a message.
    """
    bound = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6) + 1)
    with socket.socket(fileno=os.dup(pipe.fileno())) as handle:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)
