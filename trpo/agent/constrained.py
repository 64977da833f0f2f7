"""The half of an agent with a limit on costs that knows no framework."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from trpo.agent.base import AgentBase, exclusive
from trpo.common.random_streams import Purpose
from trpo.data.batch import ConstrainedBatch, Costs


COST_PREFIX = "cost_"
"""Before the canonical names of the cost critic and its optimiser: cost_value.…"""
COST_FIELDS = tuple(f"cost_{name}" for name in Costs._fields)


class ConstrainedAgentBase(AgentBase):
    """A TRPO agent whose policies keep a limit on costs (CPO).

    Achiam et al. 2017, "Constrained Policy Optimization". A second critic, of the
    architecture, optimiser and fit of the first, learns what the steps cost. With a
    limit that no cost reaches, policy and critic are those of TRPO, bit for bit.

    A batch of `update` also has `cost_advantages` and `cost_returns`, each [N] or
    [N, 1], and the number `cost_excess`, which may be -inf: see
    `trpo.data.batch.Costs`. Rates are of both critics, and metrics also those of
    `trpo.data.report.COST_METRICS`.

    Args:
        args: As `AgentBase`'s.
        cost_limit: See `trpo.config.run.TRPOConfig`. The agent itself is told, in each
            batch, by how much the limit is exceeded.
        options: As `AgentBase`'s.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    backend: Any
    """One that has a cost critic."""

    def __init__(self, *args: Any, cost_limit: float, **options: Any) -> None:
        super().__init__(*args, cost_limit=cost_limit, **options)

    @exclusive
    def cost_value(self, obs: Any) -> Any:
        """The cost critic's value [B, 1] of `obs` [B, obs_dim], in the kind of `obs`.

        In units of scaled cost, as `value` is in units of scaled reward.
        """
        native = self.backend.is_native(obs)
        value = self.backend.cost_value(self._prepare_obs(obs))
        return value if native else self.backend.to_numpy(value)

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
        excess = self._on_host("batch['cost_excess']", excess)
        number = excess.dtype.kind in "fiu" and excess.size == 1
        if not (number and float(excess.reshape(())) < np.inf):
            raise ValueError(
                "`batch['cost_excess']`: expected a number, or -inf for no limit, got "
                f"{excess!r}."
            )
        with np.errstate(over="ignore"):
            return self.backend.to_native(excess.reshape(()).astype(self.dtype))

    def _initial_weights(
        self, seed: int, critic: Purpose = Purpose.CRITIC_WEIGHTS
    ) -> dict[str, np.ndarray]:
        """Initial weights, those of the cost critic among them."""
        weights = super()._initial_weights(seed, critic)
        of_costs = super()._initial_weights(seed, Purpose.COST_CRITIC_WEIGHTS)
        of_costs = {n: a for n, a in of_costs.items() if n.startswith("value.")}
        return weights | with_prefix(of_costs)

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
