"""Gymnasium's vector of environments in one process, without infos nobody reads."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from trpo.environments.action_masks import KEY as ACTION_MASK
from trpo.environments.environment_worker import (
    CLOSE,
    UNRESTORED,
    EnvironmentWorkerError,
)
from trpo.environments.lasting_state import PROBED_ENVIRONMENTS
from trpo.environments.seeded import SeededEpisodes
from trpo.environments.step_costs import FINAL_INFO, KEY as COST, cost_info


class LeanVectorEnv(SyncVectorEnv):
    """Gymnasium's, in autoreset mode SAME_STEP, with few infos.

    They are final observations, action masks and costs, if there are any. Collecting
    the others takes a tenth of a step of HalfCheetah-v5.

    Args:
        makers: Make one environment each.
    """

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env]]) -> None:
        super().__init__(makers, autoreset_mode=AutoresetMode.SAME_STEP)

    def _add_info(
        self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int
    ) -> dict[str, Any]:
        for name in ("final_obs", ACTION_MASK, UNRESTORED):
            if name in env_info:
                one = {name: env_info[name]}
                vector_infos = super()._add_info(vector_infos, one, env_num)
        if COST in env_info or FINAL_INFO in env_info:
            costs = cost_info(env_info)
            if final := cost_info(env_info.get(FINAL_INFO)):
                costs[FINAL_INFO] = final
            vector_infos = super()._add_info(vector_infos, costs, env_num)
        return vector_infos

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
            except Exception as error:
                errors.append((index, error))
        self.closed = True
        for index, error in errors:
            raise EnvironmentWorkerError.of(index, CLOSE, error) from error
