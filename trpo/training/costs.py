"""The costs' half of the training loop: their advantages, scale, limit and records."""

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from trpo.config.run import TrainConfig
from trpo.data.advantages import generalized_advantages
from trpo.data.batch import Batch, ConstrainedBatch, Costs
from trpo.data.normalization import ReturnScaler
from trpo.data.report import COST_METRICS
from trpo.data.rollout import Rollout, RolloutCosts
from trpo.distributed.ranks import ALONE, Alone


COST_LOOP_METRICS = (
    "rollout/episode_cost_mean",
    "cost/limit",
    "cost/episode_cost",
    "cost/excess",
    "rollout/cost_scale",
)
COST_COLUMNS = (*COST_LOOP_METRICS, *COST_METRICS)


def cost_columns(config: TrainConfig) -> tuple[str, ...]:
    """Names of a run's metrics about costs; none without a limit."""
    return () if config.agent.cost_limit is None else COST_COLUMNS


class EpisodeCost(NamedTuple):
    """Means over the episodes that the limit is compared with.

    Attributes:
        cost: mean cost.
        length: mean number of steps.
        error: standard error of `cost`; 0 of a single episode.
    """

    cost: float
    length: float
    error: float = 0.0


class CostTraining:
    """Running statistics of costs, for training with a limit on them.

    Args:
        config: Of the run, whose agent has a `cost_limit`.
        recent_episodes: How many the reported mean is of.
        num_envs: Environments that this process has.
        ranks: This process and the others.
    """

    def __init__(
        self,
        config: TrainConfig,
        recent_episodes: int,
        num_envs: int,
        ranks: Alone = ALONE,
    ) -> None:
        self._config, self._ranks = config, ranks
        agent = config.agent
        assert agent.cost_limit is not None
        self._limit = agent.cost_limit
        self.scaler = ReturnScaler(num_envs, agent.cost_gamma)
        self.recent: collections.deque[float] = collections.deque(
            maxlen=recent_episodes
        )
        self.ended: EpisodeCost | None = None
        self._metrics: dict[str, float] = {}

    def batch(self, samples: Batch, rollout: Rollout) -> ConstrainedBatch:
        """The samples with their costs.

        Cost advantages are centred and not divided by their deviation: they have to
        stay in the units of the excess. That is J - limit, of the mean cost J of an
        episode or its upper bound, over the mean length of one: to the mean cost of a
        step, which is what the cost surrogate is of, it is as J to the whole episode's
        (as Ray et al. 2019, "Benchmarking Safe Exploration in Deep Reinforcement
        Learning", have it).

        Args:
            samples: What the rollout became.
            rollout: With its costs.
        """
        rollout_costs, agent = rollout.costs, self._config.agent
        assert rollout_costs is not None
        costs = rollout_costs.costs
        if self._config.scale_returns:
            done = rollout.terminated | rollout.truncated
            self.scaler.update(costs, done, rollout.valid, self._ranks)
            costs = costs / self.scaler.scale
        advantages, returns = generalized_advantages(
            costs,
            rollout_costs.values,
            rollout_costs.next_values,
            rollout.terminated,
            rollout.truncated,
            gamma=agent.cost_gamma,
            gae_lambda=agent.cost_lambda,
        )
        chosen = advantages[rollout.valid]
        episode = self._episode(rollout, rollout_costs)
        scale = self.scaler.scale if self._config.scale_returns else 1.0
        bound = episode.cost + agent.cost_standard_errors * episode.error
        excess = (bound - self._limit) / episode.length / scale
        self._metrics = {
            "cost/limit": self._limit,
            "cost/episode_cost": episode.cost,
            "cost/excess": excess,
            "rollout/cost_scale": scale,
        }
        centred = chosen - self._ranks.mean(chosen)
        return ConstrainedBatch.of(
            samples, Costs(centred, returns[rollout.valid], np.float64(excess))
        )

    def _episode(self, rollout: Rollout, rollout_costs: RolloutCosts) -> EpisodeCost:
        """Means over episodes that ended in the newest rollout in which any did.

        Before any has, over those under way, as if they ended now.
        """
        if rollout.episodes:
            costs = [episode.cost for episode in rollout.episodes]
            lengths = [episode.length for episode in rollout.episodes]
            count = len(costs)
            error = np.std(costs, ddof=1) / count**0.5 if count > 1 else 0.0
            self.ended = EpisodeCost(
                float(np.mean(costs)), float(np.mean(lengths)), float(error)
            )
            self.recent.extend(costs)
        if self.ended is not None:
            return self.ended
        under_way = [rollout_costs.open_cost, rollout_costs.open_length]
        if self._ranks.size > 1:
            # Each rank's mean is over its own environments.
            own = np.ones(rollout.valid.shape[1])
            under_way = [self._ranks.mean(mean * own) for mean in under_way]
        return EpisodeCost(under_way[0], max(under_way[1], 1.0))

    def metrics(self) -> dict[str, float]:
        """Metrics of the last update, under `COST_LOOP_METRICS`."""
        metrics = dict(self._metrics)
        if self.recent:
            metrics["rollout/episode_cost_mean"] = float(np.mean(self.recent))
        return metrics

    def snapshot(self) -> tuple[Any, ...]:
        """The state as it is now, for `restore`; cheap."""
        return self.scaler.snapshot(), self.recent.copy(), self.ended

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Make `get_state` what it was."""
        scaler, self.recent, self.ended = snapshot
        self.scaler.restore(scaler)

    def get_state(self) -> dict[str, np.ndarray]:
        """State to be saved, under the names of a checkpoint."""
        ended = self.ended or ()
        return self.scaler.get_state() | {
            "recent_episodes": np.array(self.recent, dtype=np.float64),
            "ended": np.array(ended, dtype=np.float64),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `get_state` returned."""
        self.scaler.set_state(state)
        self.recent.clear()
        self.recent.extend(map(float, state["recent_episodes"]))
        self.ended = (
            EpisodeCost(*map(float, state["ended"])) if len(state["ended"]) else None
        )
