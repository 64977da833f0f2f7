"""`ConstrainedTRPOAgent` in JAX: an agent that keeps a limit on costs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from trpo.agent.constrained import ConstrainedAgentBase, with_prefix, without_prefix
from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch, ConstrainedBatch, Rates
from trpo.data.report import (
    ConstrainedReport,
    CostReport,
    UpdateReport,
)
from trpo_jax.agent import state
from trpo_jax.agent.agent import TRPOBackend
from trpo_jax.agent.update import (
    Functions,
    TRPOState,
    build_value_optimizer,
    commit,
    fisher_policy,
    report_of,
    value,
)
from trpo_jax.devices.device import matmul_precision
from trpo_jax.networks.feedforward import Parameters
from trpo_jax.policy_step.constrained import constrained_step


class CostState(NamedTuple):
    """The cost critic's parameters, and its optimiser's state."""

    critic: Parameters
    optimizer: Any


class ConstrainedBackend(TRPOBackend):
    """`TRPOBackend` with a cost critic."""

    costs: CostState

    def _build(self, device: Any, weights: dict[str, np.ndarray]) -> None:
        super()._build(device, weights)
        with jax.default_device(self.device):
            _, critic = self._build_critic(without_prefix(weights))
            optimizer = self.build_value_optimizer(critic).init(critic)
        self.costs = self._put(CostState(critic, optimizer))

    def cost_value(self, obs: Any) -> jax.Array:
        return value(
            self.functions,
            self.config.matmul_precision,
            self.state.policy,
            self.costs.critic,
            self._here(obs),
        )

    def _compiled_update(self) -> Callable[..., Any]:
        return update

    def _report_of(self, numbers: jax.Array) -> ConstrainedReport:
        policy, costs = np.split(np.asarray(numbers), [len(UpdateReport._fields)])
        return ConstrainedReport(
            UpdateReport(*policy.tolist()), CostReport(*costs.tolist())
        )

    def learned(self) -> tuple[TRPOState, CostState]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.state, self.costs

    def restore(self, learned: tuple[TRPOState, CostState]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.state, self.costs = learned

    def arrays_of(self, learned: tuple[TRPOState, CostState]) -> dict[str, np.ndarray]:  # pyright: ignore[reportIncompatibleMethodOverride]
        before, costs = learned
        return {
            **super().arrays_of(before),
            **with_prefix(state.network_arrays(costs.critic, "value.")),
            **with_prefix(state.optimizer_arrays(costs.optimizer)),
        }

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        super().load(arrays)
        cost_arrays = without_prefix(arrays)
        self.costs = self._put(
            CostState(
                state.load_network(cost_arrays, "value."),
                state.load_optimizer(self.costs.optimizer, cost_arrays),
            )
        )


class ConstrainedTRPOAgent(ConstrainedAgentBase):
    """Constrained policy optimisation.

    Arguments and methods are those of `trpo.agent.constrained.ConstrainedAgentBase`,
    the same in both backends.
    """

    backend: ConstrainedBackend
    backend_type = ConstrainedBackend


@functools.partial(jax.jit, static_argnums=(0, 1))
def update(
    functions: Functions,
    config: TRPOConfig,
    before_update: tuple[TRPOState, CostState],
    batch: ConstrainedBatch,
    orders: jax.Array,
    rates: Rates,
) -> tuple[tuple[TRPOState, CostState], jax.Array]:
    """One constrained update, compiled whole; see `agent.update.pure_update`.

    Returns:
        The new states, or the old ones if they would not be finite; and both reports,
        their fields stacked in order.
    """
    before, costs_before = before_update
    samples = batch.samples
    with matmul_precision(config.matmul_precision):
        theta, unravel = ravel_pytree(before.policy)
        step = constrained_step(
            functions.policy_at(unravel, samples.obs, samples.action_mask),
            theta,
            batch,
            config,
            rates.target_kl,
            fisher_policy(functions, config.fisher_every, unravel, samples),
        )
        policy = unravel(step.theta)
        optimizer = build_value_optimizer(config, rates.value_lr)

        def fit_to(samples: Batch, critic: Parameters, optimizer_state: Any) -> tuple:
            return functions.fit_critic(
                policy,
                critic,
                optimizer,
                optimizer_state,
                batch=samples,
                orders=orders,
                config=config,
            )

        critic, optimizer_state, fit = fit_to(samples, before.critic, before.optimizer)
        *costs, cost_fit = fit_to(
            samples._replace(returns=batch.cost_returns),
            costs_before.critic,
            costs_before.optimizer,
        )
    after = (
        TRPOState(policy, critic, optimizer_state),
        CostState(*costs),
    )
    losses = (fit.loss, cost_fit.loss)
    committed, step = commit(after, before_update, losses, step)
    report = report_of(UpdateReport, step, fit, theta.dtype)
    costs = report_of(CostReport, step.costs, cost_fit, theta.dtype)
    return committed, jnp.append(report, costs)
