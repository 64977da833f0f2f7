"""`ConstrainedTRPOAgent` in JAX: an agent that keeps a limit on costs."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from trpo.agent.constrained import ConstrainedAgentBase, with_prefix, without_prefix
from trpo.config.run import TRPOConfig
from trpo.data.batch import ConstrainedBatch, Rates
from trpo.data.report import (
    DISCARDED_COST_FIELDS,
    ConstrainedReport,
    CostReport,
    StepStatus,
    UpdateReport,
    report_fields,
)
from trpo_jax.agent import state
from trpo_jax.agent.agent import TRPOAgent
from trpo_jax.agent.update import (
    Functions,
    TRPOState,
    build_value_optimizer,
    fisher_policy,
    value,
)
from trpo_jax.agent.update_report import discard_unless, report_of, stacked
from trpo_jax.critic.value_update import ValueFit
from trpo_jax.devices.device import matmul_precision
from trpo_jax.networks.feedforward import Parameters
from trpo_jax.policy_step.constrained import ConstrainedStep, constrained_step


class CostState(NamedTuple):
    """The cost critic's parameters, and its optimiser's state."""

    critic: Parameters
    optimizer: Any


class ConstrainedTRPOAgent(ConstrainedAgentBase, TRPOAgent):
    """Constrained policy optimisation.

    Arguments and methods are those of `trpo.agent.constrained.ConstrainedAgentBase`,
    the same in both backends.
    """

    costs: CostState

    def _build(self, device: Any, weights: dict[str, np.ndarray]) -> None:
        super()._build(device, weights)
        with jax.default_device(self.device):
            _, critic = self._build_critic(self._cost_weights())
            optimizer = self._build_value_optimizer(critic).init(critic)
        self.costs = self._put(CostState(critic, optimizer))

    def _cost_value(self, obs: Any) -> jax.Array:
        return value(
            self._functions,
            self.config.matmul_precision,
            self.state.policy,
            self.costs.critic,
            self._here(obs),
        )

    def _update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, batch: ConstrainedBatch, orders: np.ndarray, rates: Rates
    ) -> ConstrainedReport:
        (self.state, self.costs), reports = update(
            self._functions,
            self.config,
            (self.state, self.costs),
            batch,
            self._put(orders),
            Rates(*(self.dtype.type(rate) for rate in rates)),
        )
        policy, costs = np.split(np.asarray(reports), [len(UpdateReport._fields)])
        return ConstrainedReport(
            UpdateReport(*policy.tolist()), CostReport(*costs.tolist())
        )

    def _learned(self) -> tuple[TRPOState, CostState]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.state, self.costs

    def _restore_learned(self, learned: tuple[TRPOState, CostState]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.state, self.costs = learned

    def _get_learned_state(self) -> dict[str, np.ndarray]:
        return {
            **super()._get_learned_state(),
            **with_prefix(state.network_arrays(self.costs.critic, "value.")),
            **with_prefix(state.optimizer_arrays(self.costs.optimizer)),
        }

    def _set_learned_state(self, arrays: dict[str, np.ndarray]) -> None:
        super()._set_learned_state(arrays)
        own = without_prefix(arrays)
        self.costs = self._put(
            CostState(
                state.load_network(own, "value."),
                state.load_optimizer(self.costs.optimizer, own),
            )
        )


@functools.partial(jax.jit, static_argnums=(0, 1))
def update(
    functions: Functions,
    config: TRPOConfig,
    before: tuple[TRPOState, CostState],
    batch: ConstrainedBatch,
    orders: jax.Array,
    rates: Rates,
) -> tuple[tuple[TRPOState, CostState], jax.Array]:
    """One constrained update, compiled whole; see `compiled.pure_update`.

    Returns:
        The new states, or the old ones if they would not be finite; and both reports,
        their fields stacked in order.
    """
    own, costs = before
    samples = batch.samples
    options: dict[str, Any] = {"orders": orders, "config": config}
    with matmul_precision(config.matmul_precision):
        theta, unravel = ravel_pytree(own.policy)
        found = constrained_step(
            functions.policy_at(unravel, samples.obs, samples.action_mask),
            theta,
            samples,
            batch.costs,
            config,
            rates.target_kl,
            own.memory,
            fisher_policy(functions, config.fisher_every, unravel, samples),
        )
        policy = unravel(found.step.theta)
        optimizer = build_value_optimizer(config, rates.value_lr)
        given = (policy, own.critic, optimizer, own.optimizer)
        critic, state_, fit = functions.fit_critic(*given, batch=samples, **options)
        of_costs = samples._replace(returns=batch.cost_returns)
        given = (policy, costs.critic, optimizer, costs.optimizer)
        *costs, cost_fit = functions.fit_critic(*given, batch=of_costs, **options)
    after = TRPOState(policy, critic, state_, found.step.memory), CostState(*costs)
    leaves = jax.tree.leaves((after, fit.loss, cost_fit.loss))
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
    sound = finite & (found.step.status != StepStatus.NON_FINITE)
    committed = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, before)
    report = report_of(discard_unless(sound, found.step), fit)
    return committed, jnp.append(report, _cost_report(sound, found, cost_fit))


def _cost_report(sound: jax.Array, found: ConstrainedStep, fit: ValueFit) -> jax.Array:
    """One update's numbers about costs, from its two parts, in `CostReport`'s order."""
    named = report_fields(CostReport, found, fit)
    for name in DISCARDED_COST_FIELDS:
        named[name] = jnp.where(sound, named[name], 0)
    return stacked(named, found.step.theta.dtype)
