"""One trust-region step of the policy, a pure function of its arguments."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch
from trpo.data.report import StepKind, StepStatus
from trpo_torch.devices import reduction
from trpo_torch.devices.device import to_floats
from trpo_torch.distributions import Distribution
from trpo_torch.policy_step.fisher import FISHER_PRODUCTS, PolicyFunction, Product
from trpo_torch.policy_step.objective import (
    SURROGATE,
    Objective,
    Surrogate,
    gradient_of,
    mean_kl,
    objective_of,
    surrogate,
)
from trpo_torch.solvers.conjugate_gradient import (
    CGResult,
    conjugate_gradient,
    inner,
)
from trpo_torch.solvers.line_search import LINE_SEARCHES, LineSearchResult


# A gradient of this Euclidean norm or less is rounding error.
ZERO_GRADIENT_NORM = 1e-12


class CostStep(NamedTuple):
    """What a constrained step says of the cost; scalars are `CostReport`'s.

    Attributes:
        solution: [p] solution of (F + damping) v = b / |b|; 0 for no gradient b.
    """

    solution: Float[Tensor, " p"]
    step_kind: StepKind
    change: Tensor
    predicted_change: Tensor
    kl_multiplier: Tensor
    cost_multiplier: Tensor
    cg_iterations: int


class PolicyStep(NamedTuple):
    """Outcome of a trust-region step; scalars are `trpo.data.report.UpdateReport`'s.

    Attributes:
        theta: [p] new parameters; the old ones, bit for bit, unless ACCEPTED.
        cg_solution: [p] conjugate gradient's solution of (F + damping) x = g / |g|.
        full_step: [p] longest step the line search tried.
        costs: of the cost; None of a step that has no limit.
    """

    theta: Float[Tensor, " p"]
    cg_solution: Float[Tensor, " p"]
    full_step: Float[Tensor, " p"]
    surrogate_before: Tensor
    surrogate_after: Tensor
    improvement: Tensor
    kl: Tensor
    entropy: Tensor
    step_norm: Tensor
    expected_improve: Tensor
    line_search_frac: float
    line_search_accepted: bool
    ratio_mean: Tensor
    ratio_std: Tensor
    old_approx_kl: Tensor
    cg_iterations: int
    cg_residual: float
    status: StepStatus
    predicted_kl: Tensor
    agreement: Tensor
    costs: CostStep | None = None


class LocalModel(NamedTuple):
    """Predictions of the linear and the quadratic model for the full step.

    Attributes:
        step: [p] the step; zeros where none can be computed.
        norm: Euclidean length of `step`.
        improvement: gradient's inner product with `step`.
        kl: s'Fs / 2 without damping, in nats.
    """

    step: Float[Tensor, " p"]
    norm: Tensor
    improvement: Tensor
    kl: Tensor


class Direction(NamedTuple):
    """A gradient, and the natural gradient's direction.

    Attributes:
        norm: Euclidean length of the gradient.
        unit: [p] the gradient over its length; 0 where it has none.
        cg: solution x of (F + damping) x = unit.
        square: x'(F + damping)x.
    """

    norm: Tensor
    unit: Float[Tensor, " p"]
    cg: CGResult
    square: Tensor


def policy_step(
    policy: PolicyFunction,
    theta: Float[Tensor, " p"],
    batch: Batch,
    options: StepOptions,
    numbers: StepNumbers,
    fisher_policy: PolicyFunction | None = None,
) -> PolicyStep:
    """Natural-gradient step onto the trust region's border, then a line search.

    Args:
        policy: Flat parameters -> distribution at each sample of the batch.
        theta: Old parameters.
        batch: Samples.
        options: What is computed.
        numbers: Of this update.
        fisher_policy: The policy at the samples that Fisher products are means over;
            `policy` if None.
    """
    objective, theta = objective_of(options, numbers), theta.detach()
    old, before, gradient = surrogate_and_gradient(policy, theta, batch, objective)
    product = reduction.at_few(FISHER_PRODUCTS[options.fisher_product])(
        fisher_policy or policy, theta, numbers.cg_damping
    )
    direction = natural_direction(product, gradient, options, numbers)
    trouble = trouble_of(direction)
    full_step = torch.zeros_like(theta)
    if trouble is None:
        full_step = scale_to_radius(direction, numbers.target_kl)
    search, status, new = search_along(
        full_step,
        trouble,
        policy=policy,
        theta=theta,
        old=old,
        changes=lambda new: (objective.improvement(old, new, batch, before.ratio),),
        merit=lambda improvement: improvement,
        options=options,
        numbers=numbers,
    )
    model = local_model(full_step, direction, numbers)
    return summary(new, batch, before, direction.cg, model, search, status)


def surrogate_and_gradient(
    policy: PolicyFunction,
    theta: Tensor,
    batch: Batch,
    objective: Objective = SURROGATE,
) -> tuple[Distribution, Surrogate, Tensor]:
    """Old distribution, surrogate and the surrogate's gradient, all detached."""
    found: list[Surrogate] = []

    def value(distribution: Distribution) -> Tensor:
        found.append(objective.value(distribution, batch))
        return found[-1].value

    old, (gradient,) = gradient_of(policy, value, theta)
    before = Surrogate(*(field.detach() for field in found[-1]))
    return old, before, reduction.total(gradient)


def natural_direction(
    product: Product,
    gradient: Float[Tensor, " p"],
    options: StepOptions,
    numbers: StepNumbers,
) -> Direction:
    """Conjugate gradient's solution x of (F + damping) x = g / |g|."""
    norm = torch.sqrt(inner(gradient, gradient))
    # The unit-norm right-hand side makes the residual's tolerance relative, and the
    # solution independent of the advantages' scale.
    unit = gradient / torch.where(norm > 0, norm, 1.0)
    cg = conjugate_gradient(product, unit, options.cg_iters, numbers.cg_residual_tol)
    # x'(F + damping)x without one more product: A x = b - r.
    return Direction(norm, unit, cg, inner(cg.x, unit - cg.residual))


def scale_to_radius(direction: Direction, target_kl: float) -> Float[Tensor, " p"]:
    """s = x sqrt(2 target_kl / x'(F + damping)x): s'(F + damping)s / 2 is target_kl.

    Schulman et al. 2015, appendix C.
    """
    return direction.cg.x * torch.sqrt(2.0 * target_kl / direction.square)


def search_along(
    full_step: Float[Tensor, " p"],
    trouble: StepStatus | None,
    *,
    policy: PolicyFunction,
    theta: Float[Tensor, " p"],
    old: Distribution,
    changes: Callable[[Distribution], tuple[Tensor, ...]],
    merit: Callable[..., Tensor],
    options: StepOptions,
    numbers: StepNumbers,
) -> tuple[LineSearchResult, StepStatus, Distribution]:
    """Search the line of a step, unless there is trouble.

    Args:
        full_step: Longest step.
        trouble: Why it could not be computed; or None.
        policy: Flat parameters -> distribution at each sample.
        theta: Old parameters.
        old: Distribution there.
        changes: Distribution -> means that differ from the old one's by so much.
        merit: Those -> number [], above 0 where it is better than the old.
        options: What is computed.
        numbers: Of this update.

    Returns:
        The search's outcome, the step's status, and the policy at the new parameters.
    """
    last = old

    @torch.no_grad()
    def evaluate(candidate: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal last
        new = last = policy(candidate)
        means = reduction.together(lambda: (*changes(new), mean_kl(old, new)))
        return merit(*means[:-1]), means[-1]

    search = LINE_SEARCHES[options.line_search](
        evaluate,
        theta,
        full_step,
        target_kl=numbers.target_kl,
        backtrack_coeff=numbers.backtrack_coeff,
        backtrack_iters=options.backtrack_iters if trouble is None else 0,
    )
    if search.accepted:
        return search, StepStatus.ACCEPTED, last
    return search, trouble or StepStatus.LINE_SEARCH_EXHAUSTED, old


def local_model(step: Tensor, gradient: Direction, numbers: StepNumbers) -> LocalModel:
    """Predictions for a step to the trust region's border."""
    length_sq = inner(step, step)
    return LocalModel(
        step,
        torch.sqrt(length_sq),
        gradient.norm * inner(gradient.unit, step),
        # s'(F + damping)s / 2 is target_kl by construction.
        numbers.target_kl - 0.5 * numbers.cg_damping * length_sq,
    )


def trouble_of(direction: Direction) -> StepStatus | None:
    """Why no step can be computed, or None."""
    cg = direction.cg
    norm, square = to_floats(direction.norm, direction.square)
    if not all(map(math.isfinite, (norm, cg.residual_sq, cg.curvature, square))):
        return StepStatus.NON_FINITE
    if norm <= ZERO_GRADIENT_NORM:
        return StepStatus.ZERO_GRADIENT
    if cg.curvature <= 0.0 or square <= 0.0:
        return StepStatus.NON_POSITIVE_CURVATURE
    return None


@torch.no_grad()
def summary(
    new: Distribution,
    batch: Batch,
    before: Surrogate,
    cg: CGResult,
    model: LocalModel,
    search: LineSearchResult,
    status: StepStatus,
) -> PolicyStep:
    """The outcome: `new` is the policy at the search's `theta`."""
    after = surrogate(new, batch)
    predicted = search.frac * model.improvement
    return PolicyStep(
        theta=search.theta,
        cg_solution=cg.x,
        full_step=model.step,
        surrogate_before=before.value,
        surrogate_after=before.value + search.improvement,
        improvement=search.improvement,
        kl=search.kl,
        entropy=reduction.mean(new.entropy()),
        step_norm=model.norm,
        expected_improve=model.improvement,
        line_search_frac=search.frac,
        line_search_accepted=search.accepted,
        ratio_mean=reduction.mean(after.ratio),
        ratio_std=torch.sqrt(reduction.variance(after.ratio)),
        old_approx_kl=-reduction.mean(after.log_ratio),
        cg_iterations=cg.num_steps,
        cg_residual=cg.residual_sq**0.5,
        status=status,
        predicted_kl=search.frac**2 * model.kl,
        agreement=torch.where(
            predicted > 0, search.improvement / predicted, torch.zeros_like(predicted)
        ),
    )
