"""`ConstrainedTRPOAgent` in PyTorch: an agent that keeps a limit on costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo.agent.backend import Backend
from trpo.agent.constrained import ConstrainedAgentBase, with_prefix, without_prefix
from trpo.config.agent import StepNumbers
from trpo.data.batch import ConstrainedBatch
from trpo.data.report import ConstrainedReport, CostReport, UpdateReport
from trpo_torch.agent import state
from trpo_torch.agent.agent import StateDict, TRPOBackend
from trpo_torch.agent.update import report_of
from trpo_torch.critic.fit import ValueFit
from trpo_torch.devices.device import matmul_precision
from trpo_torch.policy_step.constrained import constrained_step
from trpo_torch.policy_step.step import PolicyStep


class ConstrainedBackend(TRPOBackend):
    """`TRPOBackend` with a cost critic."""

    cost_critic: nn.Module
    cost_optimizer: torch.optim.Optimizer
    _step = staticmethod(constrained_step)

    def _build_networks(self, weights: dict[str, np.ndarray]) -> None:
        super()._build_networks(weights)
        self.cost_critic = self._build_critic(without_prefix(weights))
        parameters = self.cost_critic.parameters()
        self.cost_optimizer = self.build_value_optimizer(parameters)

    @torch.no_grad()
    def cost_value(self, obs: Any) -> Tensor:
        with matmul_precision(self.config.matmul_precision):
            return self.cost_critic(self._encoded(self.to_native(obs)))

    def _critics(self) -> list[tuple[nn.Module, torch.optim.Optimizer]]:
        return [*super()._critics(), (self.cost_critic, self.cost_optimizer)]

    def _fit_critics(
        self, batch: ConstrainedBatch, orders: Any, numbers: StepNumbers
    ) -> list[ValueFit]:
        samples = batch.samples
        of_costs = samples._replace(returns=batch.cost_returns)
        return [
            self._fit_critic(*critic, targets, orders, numbers)
            for critic, targets in zip(
                self._critics(), (samples, of_costs), strict=True
            )
        ]

    def _report(self, step: PolicyStep, fits: list[ValueFit]) -> ConstrainedReport:
        return ConstrainedReport(
            report_of(UpdateReport, step, fits[0]),
            report_of(CostReport, step.costs, fits[1]),
        )

    def _copies(self, copy: state.Copy) -> dict[str, Any]:
        critic = self.cost_critic
        of_optimizer = state.optimizer_arrays(self.cost_optimizer, critic, copy)
        return {
            **super()._copies(copy),
            **with_prefix(state.network_arrays(critic, "value.", copy)),
            **with_prefix(of_optimizer),
        }

    def load(self, arrays: Mapping[str, Any]) -> None:
        super().load(arrays)
        cost_arrays = without_prefix(arrays)
        state.load_network(self.cost_critic, cost_arrays, "value.")
        state.load_optimizer(self.cost_optimizer, self.cost_critic, cost_arrays)


class ConstrainedTRPOAgent(StateDict, ConstrainedAgentBase):
    """Constrained policy optimisation.

    Arguments and methods are those of `trpo.agent.constrained.ConstrainedAgentBase`,
    the same in both backends.
    """

    backend_type: type[Backend] = ConstrainedBackend
