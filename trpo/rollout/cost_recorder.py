"""The costs of a rollout, recorded beside it for the cost critic."""

from typing import Any

import numpy as np

from trpo.data.rollout import Rollout, RolloutCosts
from trpo.rollout.open_episodes import OpenEpisodes
from trpo.rollout.repair import following_values


class CostRecorder:
    """Follows a rollout from its first step on.

    Args:
        agent: One with a cost critic.
    """

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self._cut_off: dict[int, np.ndarray] = {}

    def cut_off(self, t: int, final_obs: np.ndarray) -> None:
        """Take over what episodes are worth that were cut off in step t."""
        # All rows, not those cut alone: a compiled critic has one shape.
        self._cut_off[t] = self._agent.cost_value(final_obs)[:, 0]

    def finish(
        self,
        rollout: Rollout,
        costs: np.ndarray,
        last_obs: np.ndarray,
        open_: OpenEpisodes,
    ) -> RolloutCosts:
        """The costs of a rollout, with values as the reward's critic has them.

        Args:
            rollout: With its bad segments.
            costs: [T, B] of its steps.
            last_obs: [B, obs_dim] observations after its last step.
            open_: Episodes under way there.
        """
        next_values = np.zeros(costs.shape)
        for t, values in self._cut_off.items():
            next_values[t] = values
        flat = rollout.obs.reshape(-1, rollout.obs.shape[-1])
        values = self._agent.cost_value(flat).reshape(rollout.obs.shape[:2])
        cost_rollout = rollout._replace(values=values, next_values=next_values)
        last_values = self._agent.cost_value(last_obs)[:, 0]
        following = following_values(cost_rollout, last_values)
        assert open_.costs is not None
        return RolloutCosts(
            costs,
            cost_rollout.values,
            following,
            float(open_.costs.mean()),
            float(open_.lengths.mean()),
        )
