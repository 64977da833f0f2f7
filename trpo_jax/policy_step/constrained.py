"""One constrained trust-region step of the policy, a pure function of its arguments."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch, ConstrainedBatch
from trpo.data.report import StepKind, StepStatus
from trpo_jax.distributions import Distribution
from trpo_jax.policy_step.constrained_dual import DualSolution, solve_dual
from trpo_jax.policy_step.fisher import FISHER_PRODUCTS, PolicyFunction
from trpo_jax.policy_step.objective import (
    Objective,
    objective_of,
    surrogate_improvement,
)
from trpo_jax.policy_step.step import (
    ZERO_GRADIENT_NORM,
    CostStep,
    Direction,
    LocalModel,
    PolicyStep,
    fisher_weights,
    local_model,
    natural_direction,
    scale_to_radius,
    search_along,
    summary,
    surrogate_and_gradient,
    trouble_of,
)
from trpo_jax.solvers.conjugate_gradient import inner


class Plan(NamedTuple):
    """The step that is to be searched along.

    Attributes:
        full_step: [p] longest step; zeros where none can be computed.
        trouble: why none can be computed; ACCEPTED where one can.
        dual: multipliers of both gradients, and the kind of step.
        by_cost: whether the cost has to fall, whatever becomes of the objective.
    """

    full_step: Float[jax.Array, " p"]
    trouble: jax.Array
    dual: DualSolution
    by_cost: jax.Array


class Comparison(NamedTuple):
    """What a policy is compared with the old one by.

    Attributes:
        old: at the old parameters.
        objective: what is improved.
        batch: samples with the reward's advantages.
        of_costs: the same samples with the cost's.
        ratio: [n, 1] density before the step over density when the action was taken.
        excess: [] of the cost surrogate at the old parameters.
    """

    old: Distribution
    objective: Objective
    batch: Batch
    of_costs: Batch
    ratio: jax.Array
    excess: jax.Array

    def changes(self, new: Distribution) -> tuple[jax.Array, jax.Array]:
        """Changes of the objective and of the cost surrogate, to a distribution."""
        old, ratio = self.old, self.ratio
        improvement = self.objective.improvement(old, new, self.batch, ratio)
        return improvement, surrogate_improvement(old, new, self.of_costs, ratio)

    def merit(self, new: Distribution, by_cost: jax.Array) -> jax.Array:
        """Above 0 if a distribution is wanted: its gain, or what its cost falls by."""
        improvement, change = self.changes(new)
        merit = jnp.where(by_cost, -change, improvement)
        # Nothing is as bad as a limit that is not kept.
        kept = (change <= jnp.maximum(-self.excess, 0.0)) & jnp.isfinite(change)
        kept |= ~is_limited(self.excess)
        return jnp.where(kept, merit, -jnp.inf)


def constrained_step(
    policy: PolicyFunction,
    theta: Float[jax.Array, " p"],
    batch: ConstrainedBatch,
    options: StepOptions,
    numbers: StepNumbers,
    fisher_policy: PolicyFunction | None = None,
) -> PolicyStep:
    """The best step in the trust region that keeps the cost's limit, or lowers it.

    Achiam et al. 2017, "Constrained Policy Optimization", eqs. 10 to 14. The line
    search takes the first candidate in the trust region whose cost surrogate is within
    max(excess, 0), and which improves the surrogate. Where the limit is broken and the
    step is not TRPO's own, the cost surrogate must fall instead.

    Differs from there: TRPO's own step is taken as it is, bit for bit, if it keeps the
    linearised limit, or if the cost has no gradient. Arguments are `policy_step`'s.
    """
    objective = objective_of(options, numbers)
    samples, costs = batch.samples, batch.costs
    old, before, gradient = surrogate_and_gradient(policy, theta, samples, objective)
    of_costs = samples._replace(advantages=costs.advantages)
    _, _, cost_gradient = surrogate_and_gradient(policy, theta, of_costs)
    product = FISHER_PRODUCTS[options.fisher_product](
        fisher_policy or policy,
        theta,
        numbers.cg_damping,
        fisher_weights(samples, options),
    )
    reward = natural_direction(product, gradient, options, numbers)
    cost = natural_direction(product, cost_gradient, options, numbers)
    plan = _plan(reward, cost, costs.excess, numbers.target_kl)
    at = Comparison(old, objective, samples, of_costs, before.ratio, costs.excess)
    search, status, new = search_along(
        plan.full_step, plan.trouble, policy=policy, theta=theta, old=old,
        weights=samples.weights, merit=lambda new: at.merit(new, plan.by_cost),
        options=options, numbers=numbers,
    )  # fmt: skip
    improvement, change = (
        jnp.where(search.accepted, number, 0.0) for number in at.changes(new)
    )
    # Not the merit of a step that was taken for its cost.
    improvement = jnp.where(plan.by_cost, improvement, search.improvement)
    search = search._replace(improvement=improvement)
    model = _model(plan, reward, cost, numbers)
    step = summary(new, samples, before, reward.cg, model, search, status)
    return step._replace(
        costs=CostStep(
            solution=cost.cg.x,
            step_kind=plan.dual.kind,
            change=change,
            predicted_change=search.frac * cost.norm * inner(cost.unit, plan.full_step),
            kl_multiplier=plan.dual.kl_multiplier,
            cost_multiplier=plan.dual.cost_multiplier,
            cg_iterations=cost.cg.num_steps,
        )
    )


def is_limited(excess: jax.Array) -> jax.Array:
    """Whether there is a limit: no excess is -inf otherwise."""
    return excess > -jnp.inf


def _plan(
    reward: Direction,
    cost: Direction,
    excess: jax.Array,
    target_kl: float | jax.Array,
) -> Plan:
    """The step that solves the linear and quadratic models."""
    dual = _solve(reward, cost, excess, target_kl)
    trouble = _first_trouble(reward, cost, excess, dual.kind)
    sound = trouble == StepStatus.ACCEPTED
    # Zeros, and FREE, where no step could be computed.
    dual = DualSolution(*(jnp.where(sound, field, 0) for field in dual))
    is_free = dual.kind == StepKind.FREE
    free = scale_to_radius(reward, target_kl, sound & is_free)
    mixed = dual.of_gradient * reward.cg.x + dual.of_cost * cost.cg.x
    full_step = jnp.where(sound, jnp.where(is_free, free, mixed), 0.0)
    return Plan(full_step, trouble, dual, ~is_free & (excess > 0.0))


def _solve(
    reward: Direction,
    cost: Direction,
    excess: jax.Array,
    target_kl: float | jax.Array,
) -> DualSolution:
    """The dual in gradients of unit norm; its multipliers in those of the gradients."""
    has_reward = reward.norm > ZERO_GRADIENT_NORM
    has_cost = cost.norm > ZERO_GRADIENT_NORM
    # The cost's slope along the reward's direction: so the plane is met exactly.
    slope = inner(cost.unit, reward.cg.x)
    dual = solve_dual(
        jnp.where(has_reward, reward.square, 0.0),
        jnp.where(has_reward, slope, 0.0),
        jnp.where(has_cost, cost.square, 0.0),
        excess / jnp.where(has_cost, cost.norm, 1.0),
        target_kl,
    )
    per_cost = reward.norm / jnp.where(has_cost, cost.norm, 1.0)
    return dual._replace(
        kl_multiplier=dual.kl_multiplier * reward.norm,
        cost_multiplier=dual.cost_multiplier * per_cost,
    )


def _first_trouble(
    reward: Direction, cost: Direction, excess: jax.Array, kind: jax.Array
) -> jax.Array:
    """Why no step can be computed; ACCEPTED where one can."""
    none = jnp.int32(StepStatus.ACCEPTED)
    trouble = trouble_of(reward)
    # There may be a cost to lower.
    lowers = (trouble == StepStatus.ZERO_GRADIENT) & (kind != StepKind.FREE)
    trouble = jnp.where(lowers, none, trouble)
    of_cost = trouble_of(cost)
    of_cost = jnp.where(of_cost == StepStatus.ZERO_GRADIENT, none, of_cost)
    return jnp.where((trouble == none) & is_limited(excess), of_cost, trouble)


def _model(
    plan: Plan, reward: Direction, cost: Direction, numbers: StepNumbers
) -> LocalModel:
    """TRPO's own, but for the KL of a step that need not reach the region's border."""
    model = local_model(plan.full_step, reward, numbers)
    mixed = inner(reward.cg.x, cost.unit - cost.cg.residual)
    a, b = plan.dual.of_gradient, plan.dual.of_cost
    damped = a * a * reward.square + 2.0 * a * b * mixed + b * b * cost.square
    kl = 0.5 * (damped - numbers.cg_damping * model.norm**2)
    return model._replace(kl=jnp.where(plan.dual.kind == StepKind.FREE, model.kl, kl))
