"""A vector of environments of any kind, whose values are checked and copied.

What passes is the loop's own: no environment writes to it later, and none writes to the
actions that are recorded.
"""

import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from trpo.common.validation import shown
from trpo.environments.contract import (
    FINAL_OBS,
    RESET,
    STEP,
    copied,
    flag,
    number,
    unpacked,
)
from trpo.environments.environment_worker import (
    EnvironmentContractError,
    EnvironmentWorkerError,
)
from trpo.spaces.observations import fitting


_Value = TypeVar("_Value")
FLOAT, BOOL = np.dtype(np.float64), np.dtype(np.bool_)


class BatchError(ValueError):
    """Environment `index` of a vector broke the contract.

    Args:
        index: The environment; None if it is the vector itself.
        reason: What was expected and what came.
    """

    def __init__(self, index: int | None, reason: str) -> None:
        super().__init__(reason)
        self.index, self.reason = index, reason


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """How a vector environment starts the episode after one that has ended.

    Raises:
        ValueError: it does not say.
    """
    mode = env.metadata.get("autoreset_mode")
    try:
        return mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
    except ValueError as error:
        raise ValueError(
            "`env`: expected a vector environment whose metadata['autoreset_mode'] is "
            f"one of {[m.value for m in AutoresetMode]}, got {mode!r}."
        ) from error


class BatchStep(NamedTuple):
    """One step of B environments, as they are known to be.

    Attributes:
        obs: [B, obs_dim] observations to act on next.
        final_obs: [B, obs_dim] observations that the step led to.
        rewards: [B] float64.
        terminated: [B] bool.
        truncated: [B] bool.
        done: [B] either of them.
        infos: of the vector.
    """

    obs: np.ndarray
    final_obs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    done: np.ndarray
    infos: dict[str, Any]


class CheckedVector:
    """A vector of environments, each value of which is checked and copied.

    Args:
        env: In any of Gymnasium's autoreset modes.
        mode: Which it is.
    """

    def __init__(self, env: VectorEnv, mode: AutoresetMode) -> None:
        self.env = env
        self._same_step = mode == AutoresetMode.SAME_STEP
        self._one: Any = env.single_observation_space
        self._all = _Like(self._one.dtype, (env.num_envs, *(self._one.shape or ())))

    def reset(
        self, lengths: np.ndarray, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Observations [B, obs_dim] of a reset, and its infos.

        Args:
            lengths: [B] steps of each open episode, for an error.
            options: As Gymnasium's.

        Raises:
            EnvironmentContractError: a value is not as Gymnasium says.
            EnvironmentWorkerError: an environment raised.
        """
        first = self._same_step and options is None

        def checked(result: Any) -> tuple[np.ndarray, dict[str, Any]]:
            obs, infos = unpacked(RESET, result)
            if first and FINAL_OBS in infos:
                raise ValueError(
                    f"`info`: expected no {FINAL_OBS!r} from a reset, as Gymnasium's "
                    "vectors keep last observations under this name, got one: have a "
                    "wrapper give it another name"
                )
            return self._flat(obs), infos

        def ask() -> Any:
            return self.env.reset(options=options)

        return self._asked(RESET, lengths, checked, ask)

    def step(self, actions: Any, lengths: np.ndarray) -> BatchStep:
        """One step of all environments; `actions` stay as they are.

        Args:
            actions: As the environments take them, [B, …].
            lengths: [B] steps of each open episode, for an error.

        Raises:
            EnvironmentContractError: a value is not as Gymnasium says.
            EnvironmentWorkerError: an environment raised.
        """
        sent = copied(actions)
        return self._asked(STEP, lengths, self._step, lambda: self.env.step(sent))

    def _step(self, result: Any) -> BatchStep:
        obs, rewards, terminated, truncated, infos = unpacked(STEP, result)
        rewards = self._each("reward", rewards, FLOAT, number)
        terminated = self._each("terminated", terminated, BOOL, flag)
        truncated = self._each("truncated", truncated, BOOL, flag)
        obs = final = self._flat(obs)
        done = terminated | truncated
        # As `any`, faster on few flags.
        if self._same_step and np.count_nonzero(done):
            final = self._final(obs, done, infos)
        return BatchStep(obs, final, rewards, terminated, truncated, done, infos)

    def _final(
        self, obs: np.ndarray, done: np.ndarray, infos: dict[str, Any]
    ) -> np.ndarray:
        """`obs` with the rows of ended episodes replaced by their last observation."""
        final = obs.copy()
        for i in np.flatnonzero(done):
            try:
                final[i] = self._one_flat(infos[FINAL_OBS][i])
            except (KeyError, IndexError, TypeError, ValueError) as error:
                reason = (
                    f"`info`: expected the last observation of an episode that ended, "
                    f"{FINAL_OBS!r}, got none"
                )
                if isinstance(error, ValueError):
                    reason = str(error)
                raise BatchError(int(i), reason) from error
        return final

    def _one_flat(self, obs: Any) -> np.ndarray:
        return fitting("obs", obs, self._one).reshape(-1)

    def _flat(self, obs: Any) -> np.ndarray:
        """A copy of the vector's observations as [B, obs_dim]."""
        try:
            fitted = fitting("obs", obs, self._all)
        except ValueError:
            fitted = np.stack(self._one_by_one(obs, self._one_flat, str(self._all)))
        # In rows, whatever the order that the environment has them in.
        return np.array(fitted, order="C").reshape(len(fitted), -1)

    def _each(
        self, name: str, values: Any, dtype: np.dtype, one: Callable[[str, Any], Any]
    ) -> np.ndarray:
        """A copy of the vector's values [B]."""
        size = self.env.num_envs
        if (
            type(values) is np.ndarray
            and values.dtype.kind == dtype.kind
            and values.shape == (size,)
        ):
            return values.astype(dtype)
        expected = f"{size} values"
        checked = self._one_by_one(values, lambda value: one(name, value), expected)
        return np.array(checked, dtype=dtype)

    def _one_by_one(
        self, values: Any, one: Callable[[Any], _Value], expected: str
    ) -> list[_Value]:
        """Check each environment's value, so that an error has its number."""
        try:
            rows = list(values)
        except Exception:
            rows = []
        if len(rows) != self.env.num_envs:
            raise ValueError(f"expected {expected}, got {shown(values)}")
        checked = []
        for index, row in enumerate(rows):
            try:
                checked.append(one(row))
            except ValueError as error:
                raise BatchError(index, str(error)) from error
        return checked

    def _asked(
        self,
        phase: str,
        lengths: np.ndarray,
        checked: Callable[[Any], _Value],
        ask: Callable[[], Any],
    ) -> _Value:
        """Ask the vector for something, and check it."""
        try:
            result = ask()
        except EnvironmentWorkerError:
            raise
        except (Exception, SystemExit) as error:
            where = _where(_index_of(error), phase, lengths)
            raise EnvironmentWorkerError.of(
                where[0], phase, error, "", where[1]
            ) from error
        try:
            return checked(result)
        except ValueError as error:
            index, step = _where(getattr(error, "index", None), phase, lengths)
            failure = (index, phase, str(error), "", "", step)
            raise EnvironmentContractError(*failure) from error


def _where(
    index: int | None, phase: str, lengths: np.ndarray
) -> tuple[int | None, int | None]:
    """An environment, and the step of its episode that it was in."""
    known = index is not None and phase == STEP
    return index, int(lengths[index]) + 1 if known else None


class _Like(NamedTuple):
    """Dtype and shape of a vector's observations, as a space has them."""

    dtype: np.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def _index_of(error: BaseException) -> int | None:
    """The environment of Gymnasium's own vector that an error came from, if any."""
    codes = (SyncVectorEnv.step.__code__, SyncVectorEnv.reset.__code__)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code in codes and "i" in frame.f_locals:
            return frame.f_locals["i"]
    return None
