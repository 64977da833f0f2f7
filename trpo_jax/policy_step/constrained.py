"""One constrained trust-region step of the policy, a pure function of its arguments."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch, Costs
from trpo.data.report import StepKind, StepStatus
from trpo_jax.distributions import Distribution
from trpo_jax.policy_step.constrained_dual import DualSolution, solve_dual
from trpo_jax.policy_step.fisher import PolicyFunction
from trpo_jax.policy_step.objective import Objective, mean_kl, surrogate_improvement
from trpo_jax.policy_step.step import (
    ZERO_GRADIENT_NORM,
    LocalModel,
    PolicyStep,
    local_model,
    summary,
    surrogate_and_gradient,
    trouble_of,
)
from trpo_jax.policy_step.step_parts import LinearSystem, StepParts, step_parts
from trpo_jax.solvers.conjugate_gradient import CGResult, inner
from trpo_jax.step_memory import NO_MEMORY, StepMemory, damping_of, remember


class ConstrainedStep(NamedTuple):
    """Outcome of a constrained step; scalars are `CostReport`'s.

    Attributes:
        step: the policy's, as TRPO's.
        cost_solution: [p] solution of (F + damping) v = b / |b|; 0 for no gradient b.
    """

    step: PolicyStep
    cost_solution: Float[jax.Array, " p"]
    step_kind: jax.Array
    change: jax.Array
    predicted_change: jax.Array
    kl_multiplier: jax.Array
    cost_multiplier: jax.Array
    cg_iterations: jax.Array


class Direction(NamedTuple):
    """A gradient, and where its natural gradient points.

    Attributes:
        norm: Euclidean length of the gradient.
        unit: [p] the gradient over its length; 0 where it has none.
        cg: solution x of (F + damping) x = unit.
        square: x'(F + damping)x.
    """

    norm: jax.Array
    unit: Float[jax.Array, " p"]
    cg: CGResult
    square: jax.Array


class Candidates(NamedTuple):
    """Improvement and KL of the parameters that the line search tries.

    Attributes:
        policy: flat parameters -> distribution at each sample.
        old: at the old parameters.
        batch: samples with the reward's advantages.
        of_costs: the same samples with the cost's.
        ratio: [n, 1] density before the step over density when the action was taken.
        objective: what is improved.
        excess: [] of the cost surrogate at the old parameters.
        by_cost: whether the cost has to fall, whatever becomes of the objective.
    """

    policy: PolicyFunction
    old: Distribution
    batch: Batch
    of_costs: Batch
    ratio: jax.Array
    objective: Objective
    excess: jax.Array
    by_cost: jax.Array

    def changes(self, new: Distribution) -> tuple[jax.Array, jax.Array]:
        """Changes of the objective and of the cost surrogate, to a distribution."""
        old, ratio = self.old, self.ratio
        improvement = self.objective.improvement(old, new, self.batch, ratio)
        return improvement, surrogate_improvement(old, new, self.of_costs, ratio)

    def evaluate(self, theta: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Merit [], above 0 if the candidate is wanted, and mean KL []."""
        new = self.policy(theta)
        improvement, change = self.changes(new)
        merit = jnp.where(self.by_cost, -change, improvement)
        # Nothing is as bad as a limit that is not kept.
        kept = (change <= jnp.maximum(-self.excess, 0.0)) | ~is_limited(self.excess)
        return jnp.where(kept, merit, -jnp.inf), mean_kl(self.old, new)


def constrained_step(
    policy: PolicyFunction,
    theta: Float[jax.Array, " p"],
    batch: Batch,
    costs: Costs,
    config: TRPOConfig,
    target_kl: float | jax.Array | None = None,
    memory: StepMemory = NO_MEMORY,
    fisher_policy: PolicyFunction | None = None,
) -> ConstrainedStep:
    """The best step in the trust region that keeps the cost's limit, or lowers it.

    Achiam et al. 2017, "Constrained Policy Optimization", eqs. 10 to 14. The line
    search takes the first candidate in the trust region whose cost surrogate is within
    max(excess, 0), and which improves the surrogate. Where the limit is broken and the
    step is not TRPO's own, the cost surrogate must fall instead.

    Differs from there: TRPO's own step is taken as it is, bit for bit, if it keeps the
    linearised limit, or if the cost has no gradient.

    Args:
        policy: Flat parameters -> distribution at each sample of the batch.
        theta: Old parameters.
        batch: Samples.
        costs: Of the samples.
        config: Hyperparameters.
        target_kl: Trust-region radius, nats; the configuration's if None.
        memory: Of the step before.
        fisher_policy: As of `step.policy_step`.
    """
    parts = step_parts(config)
    target_kl = config.target_kl if target_kl is None else target_kl
    old, before, gradient = surrogate_and_gradient(
        policy, theta, batch, parts.objective
    )
    of_costs = batch._replace(advantages=costs.advantages)
    _, _, cost_gradient = surrogate_and_gradient(policy, theta, of_costs)
    damping = damping_of(config, memory)
    product = parts.curvature(fisher_policy or policy, theta, damping)
    system = LinearSystem(product, gradient, memory)
    reward = _direction(system, parts, config)
    cost = _direction(system._replace(b=cost_gradient, memory=NO_MEMORY), parts, config)
    dual = _solve(reward, cost, costs.excess, target_kl)
    trouble = _first_trouble(reward, cost, costs.excess, dual.kind)
    sound = trouble == StepStatus.ACCEPTED
    dual = _unless(sound, dual)
    is_free = dual.kind == StepKind.FREE
    square = jnp.where(sound & is_free, reward.square, 1.0)
    own = parts.scaling(reward.cg.x, square, target_kl)
    mixed = dual.of_gradient * reward.cg.x + dual.of_cost * cost.cg.x
    full_step = jnp.where(sound, jnp.where(is_free, own, mixed), 0.0)
    by_cost = ~is_free & (costs.excess > 0.0)
    candidates = Candidates(
        policy, old, batch, of_costs, before.ratio, parts.objective, costs.excess,
        by_cost,
    )  # fmt: skip
    search = parts.search(
        candidates.evaluate,
        theta,
        full_step,
        target_kl=target_kl,
        backtrack_coeff=config.backtrack_coeff,
        backtrack_iters=config.backtrack_iters,
        enabled=sound,
    )
    status = jnp.where(
        sound & ~search.accepted, StepStatus.LINE_SEARCH_EXHAUSTED, trouble
    )
    new = policy(search.theta)
    found, change = (
        jnp.where(search.accepted, number, 0.0) for number in candidates.changes(new)
    )
    # Not the merit of a step that was taken for its cost.
    improvement = jnp.where(by_cost, found, search.improvement)
    model = _model(full_step, reward, cost, dual, target_kl, damping)
    step = summary(
        new, batch, before, reward.cg, model, search._replace(improvement=improvement),
        status,
    )  # fmt: skip
    predicted = search.frac * cost.norm * inner(cost.unit, full_step)
    falls = by_cost & (predicted < 0)
    # Of a step that was taken for its cost, how well the cost was predicted.
    of_cost = change / jnp.where(falls, predicted, 1.0)
    agreement = jnp.where(falls, of_cost, step.agreement)
    kept = remember(memory, config, reward.cg.x, agreement, status)
    return ConstrainedStep(
        step=step._replace(memory=kept),
        cost_solution=cost.cg.x,
        step_kind=dual.kind,
        change=change,
        predicted_change=predicted,
        kl_multiplier=dual.kl_multiplier,
        cost_multiplier=dual.cost_multiplier,
        cg_iterations=cost.cg.num_steps,
    )


def is_limited(excess: jax.Array) -> jax.Array:
    """Whether there is a limit: no excess is -inf otherwise."""
    return excess > -jnp.inf


def _direction(system: LinearSystem, parts: StepParts, config: TRPOConfig) -> Direction:
    """Solve for the direction of the gradient that is the right-hand side."""
    gradient = system.b
    norm = jnp.sqrt(inner(gradient, gradient))
    # As TRPO's own: of unit norm, so that the residual's tolerance is relative.
    unit = gradient / jnp.where(norm > 0, norm, 1.0)
    cg = parts.solver(system._replace(b=unit), config)
    return Direction(norm, unit, cg, inner(cg.x, unit - cg.residual))


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
    found = trouble_of(reward.norm, reward.cg, reward.square)
    # There may be a cost to lower.
    lowers = (found == StepStatus.ZERO_GRADIENT) & (kind != StepKind.FREE)
    found = jnp.where(lowers, none, found)
    of_cost = trouble_of(cost.norm, cost.cg, cost.square)
    of_cost = jnp.where(of_cost == StepStatus.ZERO_GRADIENT, none, of_cost)
    return jnp.where((found == none) & is_limited(excess), of_cost, found)


def _unless(sound: jax.Array, dual: DualSolution) -> DualSolution:
    """The report: zeros, and FREE, where no step could be computed."""
    return DualSolution(*(jnp.where(sound, field, 0) for field in dual))


def _model(
    step: jax.Array,
    reward: Direction,
    cost: Direction,
    dual: DualSolution,
    target_kl: float | jax.Array,
    damping: float | jax.Array,
) -> LocalModel:
    """TRPO's own, but for the KL of a step that need not reach the region's border."""
    model = local_model(step, reward.norm, reward.unit, target_kl, damping)
    mixed = inner(reward.cg.x, cost.unit - cost.cg.residual)
    a, b = dual.of_gradient, dual.of_cost
    damped = a * a * reward.square + 2.0 * a * b * mixed + b * b * cost.square
    kl = 0.5 * (damped - damping * model.norm**2)
    return model._replace(kl=jnp.where(dual.kind == StepKind.FREE, model.kl, kl))
