"""A vector of environments in one process, with few infos, and as many copies."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import iterate

from trpo.environments.environment_worker import (
    CLOSE,
    RESET,
    STEP,
    EnvironmentWorkerError,
    add_info,
    answer,
)
from trpo.environments.lasting_state import PROBED_ENVIRONMENTS
from trpo.environments.seeded import SeededEpisodes


class LeanVectorEnv(SyncVectorEnv):
    """Gymnasium's, in autoreset mode SAME_STEP, with the infos that are read.

    An observation is copied as soon as it is there: environments may share a buffer.

    Args:
        makers: Make one environment with seeded episodes each.
    """

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env]]) -> None:
        super().__init__(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        self.time_limit: int | None = getattr(self.envs[0], "time_limit", None)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all environments, or those of `options["reset_mask"]` [B].

        Seeds are the environments' own affair: `seed` is ignored.
        """
        options = dict(options or {})
        mask = options.pop("reset_mask", np.ones(self.num_envs, dtype=bool))
        argument = {"options": options}
        infos: dict[str, Any] = {}
        self._observations = obs = np.array(self._observations)
        for index in map(int, np.flatnonzero(mask)):
            obs[index], info = answer(self.envs[index], RESET, argument)
            add_info(infos, info, index, self.num_envs)
        return obs, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any]:
        """One step of all environments; those that end are reset."""
        size = self.num_envs
        obs, rewards = np.empty_like(self._observations), np.empty(size)
        ended = np.empty((2, size), dtype=bool)
        infos: dict[str, Any] = {}
        every: Iterable = zip(
            self.envs, iterate(self.action_space, actions), strict=True
        )
        for index, (env, action) in enumerate(every):
            obs[index], rewards[index], *flags, info = answer(env, STEP, action)
            ended[:, index] = flags
            if info:
                add_info(infos, info, index, size)
        self._observations = obs
        return obs, rewards, ended[0], ended[1], infos

    def lasting(self, changed: bool) -> list[dict[str, str] | None]:
        """Lasting values of the first environments, see `SeededEpisodes.lasting`."""
        return [
            env.lasting(changed) if isinstance(env, SeededEpisodes) else None
            for env in self.envs[:PROBED_ENVIRONMENTS]
        ]

    def close_extras(self, **_: Any) -> None:
        """Close all environments.

        Raises:
            EnvironmentWorkerError: one raised; all others were closed.
        """
        errors = []
        for index, env in enumerate(self.envs):
            try:
                env.close()
            except (Exception, SystemExit) as error:
                errors.append((index, error))
        self.closed = True
        for index, error in errors:
            raise EnvironmentWorkerError.of(index, CLOSE, error) from error
