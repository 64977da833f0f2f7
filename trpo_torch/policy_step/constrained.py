"""One constrained trust-region step of the policy, a pure function of its arguments."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch, ConstrainedBatch
from trpo.data.report import StepKind, StepStatus
from trpo_torch.devices import reduction
from trpo_torch.distributions import Distribution
from trpo_torch.policy_step.constrained_dual import DualSolution, solve_dual
from trpo_torch.policy_step.fisher import FISHER_PRODUCTS, PolicyFunction
from trpo_torch.policy_step.objective import (
    Objective,
    objective_of,
    surrogate_improvement,
)
from trpo_torch.policy_step.step import (
    ZERO_GRADIENT_NORM,
    CostStep,
    Direction,
    LocalModel,
    PolicyStep,
    local_model,
    natural_direction,
    scale_to_radius,
    search_along,
    summary,
    surrogate_and_gradient,
    trouble_of,
)
from trpo_torch.solvers.conjugate_gradient import inner


class Plan(NamedTuple):
    """The step that is to be searched along.

    Attributes:
        full_step: [p] longest step; zeros where none can be computed.
        trouble: why none can be computed; None where one can.
        dual: multipliers of both gradients, and the kind of step.
        by_cost: whether the cost has to fall, whatever becomes of the objective.
    """

    full_step: Float[Tensor, " p"]
    trouble: StepStatus | None
    dual: DualSolution
    by_cost: bool


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
    ratio: Tensor
    excess: Tensor

    @torch.no_grad()
    def changes(self, new: Distribution) -> tuple[Tensor, Tensor]:
        """Changes of the objective and of the cost surrogate, to a distribution."""
        old, ratio = self.old, self.ratio
        improvement = self.objective.improvement(old, new, self.batch, ratio)
        return improvement, surrogate_improvement(old, new, self.of_costs, ratio)

    def merit(self, improvement: Tensor, change: Tensor, by_cost: bool) -> Tensor:
        """Above 0 if these changes are wanted: the gain, or what the cost falls by."""
        merit = -change if by_cost else improvement
        # Nothing is as bad as a limit that is not kept.
        kept = (change <= torch.clamp(-self.excess, min=0.0)) & torch.isfinite(change)
        kept |= ~is_limited(self.excess)
        return torch.where(kept, merit, -torch.inf)


def constrained_step(
    policy: PolicyFunction,
    theta: Float[Tensor, " p"],
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
    objective, theta = objective_of(options, numbers), theta.detach()
    samples, costs = batch.samples, batch.costs
    old, before, gradient = surrogate_and_gradient(policy, theta, samples, objective)
    of_costs = samples._replace(advantages=costs.advantages)
    _, _, cost_gradient = surrogate_and_gradient(policy, theta, of_costs)
    product = reduction.at_few(FISHER_PRODUCTS[options.fisher_product])(
        fisher_policy or policy, theta, numbers.cg_damping
    )
    reward = natural_direction(product, gradient, options, numbers)
    cost = natural_direction(product, cost_gradient, options, numbers)
    plan = _plan(reward, cost, costs.excess, numbers.target_kl)
    at = Comparison(old, objective, samples, of_costs, before.ratio, costs.excess)
    search, status, new = search_along(
        plan.full_step,
        plan.trouble,
        policy=policy,
        theta=theta,
        old=old,
        changes=at.changes,
        merit=lambda gain, change: at.merit(gain, change, plan.by_cost),
        options=options,
        numbers=numbers,
    )
    improvement, change = at.changes(new)
    if plan.by_cost:  # Its merit was another one.
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


def is_limited(excess: Tensor) -> Tensor:
    """Whether there is a limit: no excess is -inf otherwise."""
    return excess > -torch.inf


def _plan(reward: Direction, cost: Direction, excess: Tensor, target_kl: float) -> Plan:
    """The step that solves the linear and quadratic models."""
    dual = _solve(reward, cost, excess, target_kl)
    trouble = _first_trouble(reward, cost, excess, dual.kind)
    if trouble is not None:
        zero = torch.zeros_like(reward.norm)
        dual = DualSolution(zero, zero, zero, zero, StepKind.FREE)
        full_step = torch.zeros_like(reward.unit)
    elif dual.kind == StepKind.FREE:
        full_step = scale_to_radius(reward, target_kl)
    else:
        full_step = dual.of_gradient * reward.cg.x + dual.of_cost * cost.cg.x
    by_cost = dual.kind != StepKind.FREE and float(excess) > 0.0
    return Plan(full_step, trouble, dual, by_cost)


def _solve(
    reward: Direction, cost: Direction, excess: Tensor, target_kl: float
) -> DualSolution:
    """The dual in gradients of unit norm; its multipliers in those of the gradients."""
    has_reward = reward.norm > ZERO_GRADIENT_NORM
    has_cost = cost.norm > ZERO_GRADIENT_NORM
    # The cost's slope along the reward's direction: so the plane is met exactly.
    slope = inner(cost.unit, reward.cg.x)
    dual = solve_dual(
        torch.where(has_reward, reward.square, 0.0),
        torch.where(has_reward, slope, 0.0),
        torch.where(has_cost, cost.square, 0.0),
        excess / torch.where(has_cost, cost.norm, 1.0),
        target_kl,
    )
    per_cost = reward.norm / torch.where(has_cost, cost.norm, 1.0)
    return dual._replace(
        kl_multiplier=dual.kl_multiplier * reward.norm,
        cost_multiplier=dual.cost_multiplier * per_cost,
    )


def _first_trouble(
    reward: Direction, cost: Direction, excess: Tensor, kind: StepKind
) -> StepStatus | None:
    """Why no step can be computed, or None."""
    trouble = trouble_of(reward)
    if trouble == StepStatus.ZERO_GRADIENT and kind != StepKind.FREE:
        trouble = None  # There is a cost to lower.
    if trouble is not None or not is_limited(excess):
        return trouble
    trouble = trouble_of(cost)
    return None if trouble == StepStatus.ZERO_GRADIENT else trouble


def _model(
    plan: Plan, reward: Direction, cost: Direction, numbers: StepNumbers
) -> LocalModel:
    """TRPO's own, but for the KL of a step that need not reach the region's border."""
    model = local_model(plan.full_step, reward, numbers)
    mixed = inner(reward.cg.x, cost.unit - cost.cg.residual)
    a, b = plan.dual.of_gradient, plan.dual.of_cost
    damped = a * a * reward.square + 2.0 * a * b * mixed + b * b * cost.square
    kl = 0.5 * (damped - numbers.cg_damping * model.norm**2)
    return model if plan.dual.kind == StepKind.FREE else model._replace(kl=kl)
