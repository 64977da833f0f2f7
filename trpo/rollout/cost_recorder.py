"""The costs of a rollout, recorded beside it for the cost critic."""

from typing import Any

import numpy as np

from trpo.data.rollout import Rollout, RolloutCosts
from trpo.rollout.open_episodes import OpenEpisodes
from trpo.rollout.repair import following_values
from trpo.rollout.transitions import Transition


class CostRecorder:
    """Follows a rollout from its first step on.

    Args:
        agent: One with a cost critic.
    """

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self._costs: list[np.ndarray] = []
        self._next_values: list[np.ndarray] = []

    def add(self, step: Transition) -> None:
        """Take over what a step cost and, where an episode was cut off, its worth."""
        assert step.costs is not None
        next_values = np.zeros(len(step.costs))
        if (step.truncated > step.terminated).any():
            # All rows, not those cut alone: a compiled critic has one shape.
            next_values = self._agent.cost_value(step.final_obs)[:, 0]
        self._costs.append(step.costs)
        self._next_values.append(next_values)

    def finish(
        self, rollout: Rollout, last_obs: np.ndarray, open_: OpenEpisodes
    ) -> RolloutCosts:
        """The costs of a rollout, with values as the reward's critic has them.

        Args:
            rollout: With its bad segments.
            last_obs: [B, obs_dim] observations after its last step.
            open_: Episodes under way there.
        """
        flat = rollout.obs.reshape(-1, rollout.obs.shape[-1])
        values = self._agent.cost_value(flat).reshape(rollout.obs.shape[:2])
        cost_rollout = rollout._replace(
            values=values, next_values=np.stack(self._next_values)
        )
        last_values = self._agent.cost_value(last_obs)[:, 0]
        following = following_values(cost_rollout, last_values)
        assert open_.costs is not None
        return RolloutCosts(
            np.stack(self._costs),
            cost_rollout.values,
            following,
            float(open_.costs.mean()),
            float(open_.lengths.mean()),
        )
