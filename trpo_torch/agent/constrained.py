"""`ConstrainedTRPOAgent` in PyTorch: an agent that keeps a limit on costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo.agent.constrained import ConstrainedAgentBase, with_prefix, without_prefix
from trpo.data.batch import Batch, ConstrainedBatch, Rates
from trpo.data.report import (
    DISCARDED_COST_FIELDS,
    ConstrainedReport,
    CostReport,
    StepStatus,
    UpdateReport,
)
from trpo_torch.agent import state
from trpo_torch.agent.agent import TRPOAgent
from trpo_torch.agent.original_helpers import _flat_params, _set_flat_params
from trpo_torch.agent.update import discard_unless, report_of
from trpo_torch.critic.fit import ValueFit, fit_critic
from trpo_torch.devices.device import matmul_precision
from trpo_torch.policy_step.constrained import constrained_step


class ConstrainedTRPOAgent(ConstrainedAgentBase, TRPOAgent):
    """Constrained policy optimisation.

    Arguments and methods are those of `trpo.agent.constrained.ConstrainedAgentBase`,
    the same in both backends.
    """

    cost_critic: nn.Module
    cost_optimizer: torch.optim.Optimizer

    def _build(self, device: Any, weights: dict[str, np.ndarray]) -> None:
        super()._build(device, weights)
        self.cost_critic = self._build_critic(self._cost_weights())
        parameters = self.cost_critic.parameters()
        self.cost_optimizer = self._build_value_optimizer(parameters)

    @torch.no_grad()
    def _cost_value(self, obs: Any) -> Tensor:
        with matmul_precision(self.config.matmul_precision):
            return self.cost_critic(self._encoded(self._to_native(obs)))

    def _update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, batch: ConstrainedBatch, orders: np.ndarray, rates: Rates
    ) -> ConstrainedReport:
        samples = batch.samples
        with matmul_precision(self.config.matmul_precision):
            outcome = constrained_step(
                self._policy_function(samples),
                _flat_params(self.policy),
                samples,
                batch.costs,
                self.config,
                rates.target_kl,
                self._fisher_policy(samples),
            )
            step = outcome.step
            # Before the fits: a shared encoder is the one that acts next.
            _set_flat_params(self.policy, step.theta)
            for optimizer in (self.value_optimizer, self.cost_optimizer):
                for group in optimizer.param_groups:
                    group["lr"] = rates.value_lr
            fit = self._fit_critic(samples, orders)
            cost_fit = self._fit_cost_critic(samples, batch.cost_returns, orders)
        sound = step.status != StepStatus.NON_FINITE
        if not (sound and self._is_sound(step.theta, fit.loss + cost_fit.loss)):
            zeros: dict[str, Any] = dict.fromkeys(DISCARDED_COST_FIELDS, 0.0)
            outcome = outcome._replace(step=discard_unless(False, step), **zeros)
        return ConstrainedReport(
            report_of(UpdateReport, outcome.step, fit),
            report_of(CostReport, outcome, cost_fit),
        )

    def _fit_cost_critic(
        self, samples: Batch, returns: Tensor, orders: np.ndarray
    ) -> ValueFit:
        """Fit the cost critic in place, in the same order as the critic."""
        return fit_critic(
            self.cost_critic,
            self.cost_optimizer,
            samples._replace(obs=self._encoded(samples.obs), returns=returns),
            orders,
            self.config,
        )

    def _fitted(self) -> list[Tensor]:
        return super()._fitted() + self._fitted_of(
            self.cost_critic, self.cost_optimizer
        )

    def _copies(self, copy: state.Copy) -> dict[str, Any]:
        critic = self.cost_critic
        of_optimizer = state.optimizer_arrays(self.cost_optimizer, critic, copy)
        return {
            **super()._copies(copy),
            **with_prefix(state.network_arrays(critic, "value.", copy)),
            **with_prefix(of_optimizer),
        }

    def _set_learned_state(self, arrays: Mapping[str, Any]) -> None:
        super()._set_learned_state(arrays)
        cost_arrays = without_prefix(arrays)
        state.load_network(self.cost_critic, cost_arrays, "value.")
        state.load_optimizer(self.cost_optimizer, self.cost_critic, cost_arrays)
