"""One environment whose episodes are seeded, numbered and can be replayed."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from trpo.common.random_streams import Purpose, RandomStream, episode_seed
from trpo.environments.environment_worker import (
    RESET,
    STEP,
    UNRESTORED,
    EnvironmentWorkerError,
)
from trpo.environments.lasting_state import PROBED_ENVIRONMENTS, lasting_values


RESTORE = "restore_episode"
"""Reset option: {index in the vector: (episode number, actions so far)}."""


class SeededEpisodes(gymnasium.Wrapper):
    """Gives episode k of environment i the seed (run seed, i, k).

    Every reset is so a function of three integers, also those that a vector
    environment makes by itself. An open episode can be restored by replaying its
    actions, which is exact in any environment that draws its randomness from its seed.

    Args:
        env: One environment.
        seed: Seed of the run.
        env_index: Index of the environment among all of the run.
        purpose: Training or evaluation; their episodes differ.
        first: Index of the first that is in its vector; other processes may have some.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        seed: int,
        env_index: int,
        purpose: Purpose,
        first: int = 0,
    ) -> None:
        super().__init__(env)
        self._stream = RandomStream(seed, purpose)
        self._env_index, self._in_vector = env_index, env_index - first
        self._episode = 0
        self._probed = env_index < PROBED_ENVIRONMENTS
        self._made = lasting_values(env) if self._probed else {}

    def lasting(self, changed: bool) -> dict[str, str]:
        """Digests of what the environment holds now, see `lasting_values`.

        Args:
            changed: Leave out what is as it was made: names, paths and the like.
        """
        values = lasting_values(self.env) if self._probed else {}
        first_values = self._made if changed else {}
        return {
            name: value
            for name, value in values.items()
            if first_values.get(name) != value
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the next episode, or restore the one in `options[RESTORE]`.

        Where that fails, its infos have `UNRESTORED`, and the episode begins anew.

        Raises:
            EnvironmentWorkerError: the environment raised, or its observation does
                not fit its space.
        """
        options = dict(options or {})
        restore = options.pop(RESTORE, {}).get(self._in_vector)
        if restore is not None:
            self._episode = restore[0]
        if seed is None:
            seed = episode_seed(
                self._stream, env_index=self._env_index, episode=self._episode
            )
        self._episode += 1
        try:
            obs, info = self.env.reset(seed=seed, options=options or None)
            actions = () if restore is None else restore[1]
            if len(actions) and (replayed := self._replayed(actions)) is None:
                # It is random beyond its seed, or the actions are not its own.
                obs, info = self.env.reset(seed=seed, options=options or None)
                info = {**info, UNRESTORED: True}
            elif len(actions):
                obs, info = replayed
            return self._fitting(obs), info
        except Exception as error:
            raise EnvironmentWorkerError.of(self._env_index, RESET, error) from error

    def _replayed(self, actions: Sequence[Any]) -> tuple[Any, dict[str, Any]] | None:
        """Observation and infos after these actions; None if one fails or ends it."""
        obs, info = None, {}
        try:
            for action in actions:
                obs, _, terminated, truncated, info = self.env.step(action)
                if terminated or truncated:
                    return None
        except Exception:
            return None
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the environment.

        Raises:
            EnvironmentWorkerError: the environment raised, or what it returned is not
                an observation of its space, a number and two flags.
        """
        try:
            obs, reward, terminated, truncated, info = self.env.step(action)
            obs, reward = self._fitting(obs), float(reward)
            terminated, truncated = bool(terminated), bool(truncated)
        except Exception as error:
            raise EnvironmentWorkerError.of(self._env_index, STEP, error) from error
        if terminated or truncated:
            # Gymnasium keeps a reference while it resets, and an environment that
            # reuses its buffer would write the next episode over the final observation.
            obs = np.array(obs)
        return obs, reward, terminated, truncated, info

    def _fitting(self, obs: Any) -> Any:
        """`obs` if it has the space's shape, and numbers that fit its dtype.

        Raises:
            ValueError: it has not.
        """
        space = self.observation_space
        if space.dtype is None or (
            type(obs) is np.ndarray
            and (obs.dtype == space.dtype and obs.shape == space.shape)
        ):
            return obs
        array = np.asarray(obs)
        if array.shape != space.shape or not _fits(array.dtype, space.dtype):
            raise ValueError(
                f"expected an observation of {space.dtype} {list(space.shape or ())}, "
                f"as its space says, got {array.dtype} {list(array.shape)}"
            )
        return array


def _fits(dtype: np.dtype, space_dtype: np.dtype) -> bool:
    """Whether numbers of one dtype may stand for another's, rounded at most."""
    return np.can_cast(dtype, space_dtype, "same_kind") or (
        dtype.kind in "iu" and space_dtype.kind in "iu"
    )
