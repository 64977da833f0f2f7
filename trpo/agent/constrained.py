"""The half of an agent with a limit on costs that knows no framework."""

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np

from trpo.agent.base import AgentBase
from trpo.common.random_streams import Purpose
from trpo.data.batch import ConstrainedBatch, Costs
from trpo.spaces.initialization import initial_weights


COST_PREFIX = "cost_"
"""Before the canonical names of the cost critic and its optimiser: cost_value.…"""
COST_FIELDS = tuple(f"cost_{name}" for name in Costs._fields)


class ConstrainedAgentBase(AgentBase):
    """A TRPO agent whose policies keep a limit on costs (CPO).

    Achiam et al. 2017, "Constrained Policy Optimization". A second critic, of the
    architecture, optimiser and fit of the first, learns what the steps cost. With a
    limit that no cost reaches, policy and critic are those of TRPO, bit for bit.

    Args:
        args: As `AgentBase`'s.
        cost_limit: See `trpo.config.run.TRPOConfig`. The agent itself is told, in each
            batch, by how much the limit is exceeded.
        options: As `AgentBase`'s.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    def __init__(self, *args: Any, cost_limit: float, **options: Any) -> None:
        super().__init__(*args, cost_limit=cost_limit, **options)

    def cost_value(self, obs: Any) -> Any:
        """The cost critic's value [B, 1] of `obs` [B, obs_dim], in the kind of `obs`.

        In units of scaled cost, as `value` is in units of scaled reward.
        """
        native = self._is_native(obs)
        value = self._cost_value(self._prepare_obs(obs))
        return value if native else self._to_numpy(value)

    def update(
        self,
        batch: Mapping[str, Any] | ConstrainedBatch,
        *,
        target_kl: float | None = None,
        value_lr: float | None = None,
    ) -> dict[str, float]:
        """Take one constrained step, then fit both critics.

        As `AgentBase.update`, which see for arguments and errors.

        Args:
            batch: Also `cost_advantages` and `cost_returns`, each [N] or [N, 1], and
                the number `cost_excess`; see `trpo.data.batch.Costs`.
            target_kl: This update's trust-region radius; the configuration's if None.
            value_lr: This update's learning rate of both critics; likewise.

        Returns:
            The metrics, under `trpo.data.report.METRIC_NAMES` and
            `trpo.data.report.COST_METRICS`.

        Raises:
            ValueError: a field is missing, empty, wrongly shaped or not finite (the
                excess may be -inf); it is named, and nothing has changed.
        """
        return super().update(batch, target_kl=target_kl, value_lr=value_lr)  # pyright: ignore[reportArgumentType]

    def _check_batch(self, batch: Mapping[str, Any] | ConstrainedBatch) -> Any:
        """The batch as native arrays in the agent's dtype."""
        if isinstance(batch, ConstrainedBatch):
            batch = batch._asdict()
        samples = super()._check_batch(batch)
        if missing := [name for name in COST_FIELDS if batch.get(name) is None]:
            raise ValueError(
                f"`batch`: expected the fields {list(COST_FIELDS)} too, as "
                f"`cost_limit` is set, got no {missing[0]!r}."
            )
        columns = {name: batch[name] for name in COST_FIELDS[:2]}
        rows = samples.obs.shape[0]
        advantages, returns = self._checked_fields(columns, rows, {}).values()
        excess = self._checked_excess(batch[COST_FIELDS[2]])
        return ConstrainedBatch.of(samples, Costs(advantages, returns, excess))

    def _checked_excess(self, excess: Any) -> Any:
        """The excess as a native number.

        Raises:
            ValueError: it is no number, NaN or +inf.
        """
        excess = (
            self._to_numpy(excess) if self._is_native(excess) else np.asarray(excess)
        )
        number = excess.dtype.kind in "fiu" and excess.size == 1
        if not (number and float(excess.reshape(())) < np.inf):
            raise ValueError(
                "`batch['cost_excess']`: expected a number, or -inf for no limit, got "
                f"{excess!r}."
            )
        with np.errstate(over="ignore"):
            return self._to_native(excess.reshape(()).astype(self.dtype))

    def _cost_weights(self) -> dict[str, np.ndarray]:
        """Initial weights of the cost critic, under the names of the critic's."""
        config = self.config
        weights = initial_weights(
            obs_dim=self.obs_dim,
            head=self.head,
            policy_layer_sizes=config.policy_layer_sizes,
            critic_layer_sizes=config.critic_layer_sizes,
            initial_log_std=config.initial_log_std,
            initialization=config.initialization,
            architecture=self.architecture,
            share_encoder=config.share_encoder,
            seed=self.seed,
            critic=Purpose.COST_CRITIC_WEIGHTS,
        )
        return {
            name: array.astype(self.dtype)
            for name, array in weights.items()
            if name.startswith("value.")
        }

    @abc.abstractmethod
    def _cost_value(self, obs: Any) -> Any:
        """Cost critic's values [B, 1]."""

    def _require_kind(self) -> None:
        if self.config.cost_limit is None:
            raise ValueError(
                f"`cost_limit`: expected a number for {type(self).__name__}, got None. "
                "TRPOAgent has no limit on costs."
            )


def with_prefix(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """A critic's canonical arrays as those of the cost critic."""
    return {f"{COST_PREFIX}{name}": array for name, array in arrays.items()}


def without_prefix(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The cost critic's canonical arrays as those of a critic."""
    return {
        name.removeprefix(COST_PREFIX): array
        for name, array in arrays.items()
        if name.startswith(COST_PREFIX)
    }
