"""`ConstrainedTRPOAgent` in PyTorch: an agent that keeps a limit on costs."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo.constrained_base import ConstrainedAgentBase, with_prefix, without_prefix
from trpo.constrained_types import (
    DISCARDED_COST_FIELDS,
    ConstrainedBatch,
    ConstrainedReport,
    CostReport,
)
from trpo.types import Batch, Rates, StepStatus, report_fields
from trpo_torch import state
from trpo_torch.agent import (
    TRPOAgent,
    _flat_params,
    _set_flat_params,
)
from trpo_torch.constrained_update import ConstrainedStep, constrained_step
from trpo_torch.device import matmul_precision
from trpo_torch.update_report import discard_unless, report_of
from trpo_torch.value_update import ValueFit, fit_critic


class ConstrainedTRPOAgent(ConstrainedAgentBase, TRPOAgent):
    """Constrained policy optimisation.

    Arguments and methods are those of `trpo.constrained_base.ConstrainedAgentBase`, the
    same in both backends.
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
            found = constrained_step(
                self._policy_function(samples),
                _flat_params(self.policy),
                samples,
                batch.costs,
                self.config,
                rates.target_kl,
                self.step_memory,
                self._fisher_policy(samples),
            )
            step = found.step
            # Before the fits: a shared encoder is the one that acts next.
            _set_flat_params(self.policy, step.theta)
            self.step_memory = step.memory
            for optimizer in (self.value_optimizer, self.cost_optimizer):
                for group in optimizer.param_groups:
                    group["lr"] = rates.value_lr
            fit = self._fit_critic(samples, orders)
            cost_fit = self._fit_cost_critic(samples, batch.cost_returns, orders)
        sound = step.status != StepStatus.NON_FINITE
        if not (sound and self._is_sound(step.theta, fit.loss + cost_fit.loss)):
            zeros: dict[str, Any] = dict.fromkeys(DISCARDED_COST_FIELDS, 0.0)
            found = found._replace(step=discard_unless(False, step), **zeros)
        return ConstrainedReport(
            report_of(found.step, fit), _cost_report(found, cost_fit)
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

    def _is_sound(self, theta: Tensor, value_loss: Tensor) -> bool:
        tensors = list(self.cost_critic.parameters())
        for slots in self.cost_optimizer.state.values():
            tensors += [value for value in slots.values() if value is not None]
        own = all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
        return own and super()._is_sound(theta, value_loss)

    def _get_learned_state(self) -> dict[str, np.ndarray]:
        critic = self.cost_critic
        return {
            **super()._get_learned_state(),
            **with_prefix(state.network_arrays(critic, "value.")),
            **with_prefix(state.optimizer_arrays(self.cost_optimizer, critic)),
        }

    def _set_learned_state(self, arrays: dict[str, np.ndarray]) -> None:
        super()._set_learned_state(arrays)
        own = without_prefix(arrays)
        state.load_network(self.cost_critic, own, "value.")
        state.load_optimizer(self.cost_optimizer, self.cost_critic, own)


def _cost_report(found: ConstrainedStep, fit: ValueFit) -> CostReport:
    """One update's numbers about costs, from its two parts."""
    named = report_fields(CostReport, found, fit)
    return CostReport(**{name: float(value) for name, value in named.items()})
