"""A vector of environments that each live apart, none of which can stop the rest.

Gymnasium's own waits for ever on a worker that hangs or was killed, also in `close`.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from trpo.common.closing import noting_failure
from trpo.environments.environment_worker import (
    CLOSE,
    CONSTRUCTOR,
    PROBE,
    RESET,
    STEP,
    EnvironmentWorkerError,
    add_info,
)
from trpo.environments.lasting_state import PROBED_ENVIRONMENTS
from trpo.environments.process_workers import (
    CLOSE_SECONDS,
    Answer,
    Maker,
    ProcessWorkers,
    Workers,
)
from trpo.environments.seeded import RESTORE


RESTARTED = "trpo/restarted"
"""Info of a step: [B] where a worker failed and another took its place."""
PROBE_SECONDS = 2.0
"""Seconds that workers have to answer a probe, for which a save waits."""


class WorkerVectorEnv(VectorEnv):
    """Environments of seeded episodes, each in a worker, resetting in the same step.

    Args:
        makers: Make one environment with seeded episodes each; picklable.
        workers: Where they live; if None, in processes of this machine.
        timeout: Seconds that a worker has to answer.
        max_restarts: Workers that may fail in a step and be replaced. A new one starts
            the next episode; the step is reported as truncated, with the info
            `RESTARTED`, and is no transition.

    Raises:
        EnvironmentWorkerError: a worker raised, ended or did not answer; no worker
            is left.
    """

    def __init__(
        self,
        makers: Sequence[Maker],
        workers: Workers | None = None,
        *,
        timeout: float = 60.0,
        max_restarts: int = 0,
    ) -> None:
        self._workers: Workers = workers or ProcessWorkers(makers, timeout)
        self.num_envs = len(makers)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._timeout, self._restarts_left = timeout, max_restarts
        self._episodes = [-1] * self.num_envs
        self._ticket = 0
        try:
            for index in range(self.num_envs):
                self._workers.start(index)
            spaces = self._gather(range(self.num_envs), CONSTRUCTOR)
        except BaseException as cause:
            with noting_failure(cause):
                self._stop()
            raise
        space, action_space, self.time_limit = spaces[0]
        self.single_observation_space: Space[Any] = space
        self.single_action_space: Space[Any] = action_space
        self.observation_space: Space[Any] = batch_space(space, self.num_envs)
        self.action_space: Space[Any] = batch_space(action_space, self.num_envs)

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
            add_info(infos, info, index, self.num_envs)
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
            add_info(infos, info, index, self.num_envs)
        if RESTARTED in infos:
            infos[RESTARTED] = infos[f"_{RESTARTED}"]
        return self._stacked(), rewards, ended[0], ended[1], infos  # pyright: ignore

    def lasting(self, changed: bool) -> list[dict[str, str] | None]:
        """Lasting values of the first environments, see `SeededEpisodes.lasting`.

        None of one that has ended, or does not answer at once; whoever needs its next
        step will say so.
        """
        if self.closed:
            return []
        self._ticket += 1
        indices = range(min(self.num_envs, PROBED_ENVIRONMENTS))
        argument = {"changed": changed}
        asked = [
            index
            for index in indices
            if self._workers.send(index, self._ticket, PROBE, argument)
        ]
        answers = self._gather(asked, PROBE, seconds=PROBE_SECONDS)
        values = [answers.get(index) for index in indices]
        return [None if _failed(answer) else answer for answer in values]

    def close_extras(self, **_: Any) -> None:
        """Close all environments and end their workers, within two seconds.

        Raises:
            EnvironmentWorkerError: one raised as it was closed; all have ended.
        """
        self._stop(report=True)

    def _stacked(self) -> np.ndarray:
        return np.stack(self._obs).astype(self.single_observation_space.dtype)

    def _ask(self, command: str, arguments: dict[int, Any]) -> dict[int, Any]:
        """Send a command, and wait for the answers.

        Raises:
            EnvironmentWorkerError: one failed and may not be replaced; no worker is
                left.
        """
        if self.closed:
            index = min(arguments)
            reason = "the environments have been closed"
            raise EnvironmentWorkerError(index, command, reason)
        self._ticket += 1
        dead = [
            index
            for index, argument in arguments.items()
            if not self._workers.send(index, self._ticket, command, argument)
        ]
        answers = self._gather([i for i in arguments if i not in dead], command, dead)
        for index in [i for i, answer in answers.items() if _failed(answer)]:
            error = answers[index]
            if command != STEP or self._restarts_left == 0:
                self._stop()
                raise error
            answers[index] = self._replaced(index)
        return answers

    def _gather(
        self,
        indices: Iterable[int],
        phase: str,
        dead: Sequence[int] = (),
        seconds: float | None = None,
    ) -> dict[int, Any]:
        """Answers, or errors, of these workers by index; of `dead` ones errors.

        Raises:
            EnvironmentWorkerError: a constructor failed.
        """
        waiting = set(indices)
        how = self._workers.end_of
        answers: dict[int, Any] = {
            i: EnvironmentWorkerError(i, phase, how(i)) for i in dead
        }
        seconds = self._timeout if seconds is None else seconds
        deadline = time.monotonic() + seconds
        while waiting:
            ready = self._workers.receive(deadline - time.monotonic())
            if not ready:
                reason = f"no answer within {seconds:g} s"
                late = {i: EnvironmentWorkerError(i, phase, reason) for i in waiting}
                answers |= late
                break
            # One that has answered may end, which is no answer.
            for answer in (a for a in ready if a.index in waiting):
                # An older one is what an interrupted call did not wait for.
                if answer.ticket in (self._ticket, None) or answer.error is not None:
                    answers[answer.index] = _judged(answer, phase)
                    waiting.discard(answer.index)
        if phase == CONSTRUCTOR:
            for error in filter(_failed, (answers[i] for i in sorted(answers))):
                raise error
        return answers

    def _replaced(self, index: int) -> tuple[Any, ...]:
        """Replace a worker that has failed, and return a result for its step.

        Raises:
            EnvironmentWorkerError: the new one failed too; no worker is left.
        """
        self._restarts_left -= 1
        try:
            self._workers.end(index)
            self._workers.start(index)
            self._ticket, ticket = 0, self._ticket
            self._gather([index], CONSTRUCTOR)
            self._ticket = ticket + 1
            # The one that `step` counts on to.
            episode = (self._episodes[index] + 1, ())
            argument = {"options": {RESTORE: {index: episode}}}
            lives = self._workers.send(index, self._ticket, RESET, argument)
            asked, dead = ([index], []) if lives else ([], [index])
            answer = self._gather(asked, RESET, dead)[index]
            if _failed(answer):
                raise answer
        except BaseException as cause:
            with noting_failure(cause):
                self._stop()
            raise
        obs, info = answer
        info |= {"final_obs": np.zeros_like(obs), RESTARTED: True}
        return obs, 0.0, False, True, info

    def _stop(self, report: bool = False) -> None:
        """Have all environments closed if they can be, and end every worker.

        Raises:
            EnvironmentWorkerError: with `report`, one raised as it was closed.
        """
        self._ticket += 1
        self._timeout = CLOSE_SECONDS
        answers: dict[int, Any] = {}
        try:
            asked = [
                index
                for index in self._workers.living()
                if self._workers.send(index, self._ticket, CLOSE, None)
            ]
            answers = self._gather(asked, CLOSE)
        finally:
            for index in range(self.num_envs):
                self._workers.end(index)
            self._workers.close()
            self.closed = True
        for error in filter(_failed, answers.values() if report else ()):
            raise error


def _failed(answer: Any) -> bool:
    return isinstance(answer, EnvironmentWorkerError)


def _judged(answer: Answer, phase: str) -> Any:
    """The value that was asked for, or the error in its place."""
    if answer.ticket is None:
        return EnvironmentWorkerError(answer.index, phase, answer.value)
    return answer.value if answer.error is None else answer.error
