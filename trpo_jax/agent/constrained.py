"""`ConstrainedTRPOAgent` in JAX: an agent that keeps a limit on costs."""

from typing import Any

import jax
import numpy as np

from trpo.agent.backend import Backend
from trpo.agent.constrained import ConstrainedAgentBase, with_prefix, without_prefix
from trpo.data.report import ConstrainedReport, CostReport, UpdateReport
from trpo_jax.agent import state
from trpo_jax.agent.agent import TRPOBackend
from trpo_jax.agent.update import CriticState, TRPOState, value
from trpo_jax.devices.device import to_floats
from trpo_jax.policy_step.constrained import constrained_step


class ConstrainedBackend(TRPOBackend):
    """`TRPOBackend` with a cost critic."""

    _step = staticmethod(constrained_step)

    def _build(self, weights: dict[str, np.ndarray]) -> None:
        super()._build(weights)
        with jax.default_device(self.device):
            _, critic = self._build_critic(without_prefix(weights))
            optimizer = self.build_value_optimizer(critic).init(critic)
        self._add(CriticState(critic, optimizer))

    def _add(self, costs: CriticState) -> None:
        self.state = self.state._replace(costs=self._put(costs))

    def cost_value(self, obs: Any) -> jax.Array:
        assert self.state.costs is not None
        return value(
            self.functions,
            self.config.matmul_precision,
            self.state.policy,
            self.state.costs.critic,
            self._here(obs),
        )

    def _report_of(self, fields: jax.Array) -> ConstrainedReport:
        numbers, count = to_floats(fields), len(UpdateReport._fields)
        return ConstrainedReport(
            UpdateReport(*numbers[:count]), CostReport(*numbers[count:])
        )

    def arrays_of(self, learned: TRPOState) -> dict[str, np.ndarray]:
        assert learned.costs is not None
        critic, optimizer = learned.costs
        costs = state.network_arrays(critic, "value.")
        costs |= state.optimizer_arrays(optimizer)
        return {**super().arrays_of(learned), **self.canonical(with_prefix(costs))}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        super().load(arrays)
        arrays = state.renamed(arrays, *map(state.inverse, self._renamings))
        costs, template = without_prefix(arrays), self.state.optimizer
        optimizer = state.load_optimizer(template, costs)
        self._add(CriticState(state.load_network(costs, "value."), optimizer))


class ConstrainedTRPOAgent(ConstrainedAgentBase):
    """Constrained policy optimisation.

    Arguments and methods are those of `trpo.agent.constrained.ConstrainedAgentBase`,
    the same in both backends.
    """

    backend: ConstrainedBackend
    backend_type: type[Backend] = ConstrainedBackend
