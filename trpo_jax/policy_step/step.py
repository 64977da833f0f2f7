"""One trust-region step of the policy, a pure function of its arguments."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch
from trpo.data.report import StepStatus
from trpo_jax.devices.means import mean, variance
from trpo_jax.distributions import Distribution
from trpo_jax.policy_step.fisher import FISHER_PRODUCTS, PolicyFunction, Product
from trpo_jax.policy_step.objective import (
    SURROGATE,
    Objective,
    Surrogate,
    mean_kl,
    objective_of,
    surrogate,
)
from trpo_jax.solvers.conjugate_gradient import (
    CGResult,
    conjugate_gradient,
    inner,
)
from trpo_jax.solvers.line_search import LINE_SEARCHES, LineSearchResult


# A gradient of this Euclidean norm or less is rounding error.
ZERO_GRADIENT_NORM = 1e-12


class CostStep(NamedTuple):
    """What a constrained step says of the cost; scalars are `CostReport`'s.

    Attributes:
        solution: [p] solution of (F + damping) v = b / |b|; 0 for no gradient b.
    """

    solution: Float[jax.Array, " p"]
    step_kind: jax.Array
    change: jax.Array
    predicted_change: jax.Array
    kl_multiplier: jax.Array
    cost_multiplier: jax.Array
    cg_iterations: jax.Array


class PolicyStep(NamedTuple):
    """Outcome of a trust-region step; scalars are `trpo.data.report.UpdateReport`'s.

    Attributes:
        theta: [p] new parameters; the old ones, bit for bit, unless ACCEPTED.
        cg_solution: [p] conjugate gradient's solution of (F + damping) x = g / |g|.
        full_step: [p] longest step the line search tried.
        costs: of the cost; None of a step that has no limit.
    """

    theta: Float[jax.Array, " p"]
    cg_solution: Float[jax.Array, " p"]
    full_step: Float[jax.Array, " p"]
    surrogate_before: jax.Array
    surrogate_after: jax.Array
    improvement: jax.Array
    kl: jax.Array
    entropy: jax.Array
    step_norm: jax.Array
    expected_improve: jax.Array
    line_search_frac: jax.Array
    line_search_accepted: jax.Array
    ratio_mean: jax.Array
    ratio_std: jax.Array
    old_approx_kl: jax.Array
    cg_iterations: jax.Array
    cg_residual: jax.Array
    status: jax.Array
    predicted_kl: jax.Array
    agreement: jax.Array
    costs: CostStep | None = None


class LocalModel(NamedTuple):
    """Predictions of the linear and the quadratic model for the full step.

    Attributes:
        step: [p] the step; zeros where none can be computed.
        norm: Euclidean length of `step`.
        improvement: gradient's inner product with `step`.
        kl: s'Fs / 2 without damping, in nats.
    """

    step: Float[jax.Array, " p"]
    norm: jax.Array
    improvement: jax.Array
    kl: jax.Array


class Direction(NamedTuple):
    """A gradient, and the natural gradient's direction.

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


def policy_step(
    policy: PolicyFunction,
    theta: Float[jax.Array, " p"],
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
    objective = objective_of(options, numbers)
    old, before, gradient = surrogate_and_gradient(policy, theta, batch, objective)
    weights = fisher_weights(batch, options)
    product = FISHER_PRODUCTS[options.fisher_product](
        fisher_policy or policy, theta, numbers.cg_damping, weights
    )
    direction = natural_direction(product, gradient, options, numbers)
    trouble = trouble_of(direction)
    full_step = scale_to_radius(
        direction, numbers.target_kl, trouble == StepStatus.ACCEPTED
    )
    search, status, new = search_along(
        full_step,
        trouble,
        policy=policy,
        theta=theta,
        old=old,
        weights=batch.weights,
        merit=lambda new: objective.improvement(old, new, batch, before.ratio),
        options=options,
        numbers=numbers,
    )
    model = local_model(full_step, direction, numbers)
    return summary(new, batch, before, direction.cg, model, search, status)


def fisher_weights(batch: Batch, options: StepOptions) -> jax.Array | None:
    """Weights of the samples that Fisher products are means over."""
    return None if batch.weights is None else batch.weights[:: options.fisher_every]


def surrogate_and_gradient(
    policy: PolicyFunction,
    theta: jax.Array,
    batch: Batch,
    objective: Objective = SURROGATE,
) -> tuple[Distribution, Surrogate, jax.Array]:
    """Old distribution, surrogate and the surrogate's gradient."""

    def value_and_rest(at: jax.Array) -> tuple[jax.Array, tuple]:
        distribution = policy(at)
        before = objective.value(distribution, batch)
        return before.value, (distribution, before)

    gradient, (old, before) = jax.grad(value_and_rest, has_aux=True)(theta)
    return old, before, gradient


def natural_direction(
    product: Product,
    gradient: Float[jax.Array, " p"],
    options: StepOptions,
    numbers: StepNumbers,
) -> Direction:
    """Conjugate gradient's solution x of (F + damping) x = g / |g|."""
    norm = jnp.sqrt(inner(gradient, gradient))
    # The unit-norm right-hand side makes the residual's tolerance relative, and the
    # solution independent of the advantages' scale.
    unit = gradient / jnp.where(norm > 0, norm, 1.0)
    cg = conjugate_gradient(product, unit, options.cg_iters, numbers.cg_residual_tol)
    # x'(F + damping)x without one more product: A x = b - r.
    return Direction(norm, unit, cg, inner(cg.x, unit - cg.residual))


def scale_to_radius(
    direction: Direction, target_kl: float | jax.Array, enabled: jax.Array
) -> Float[jax.Array, " p"]:
    """s = x sqrt(2 target_kl / x'(F + damping)x): s'(F + damping)s / 2 is target_kl.

    Schulman et al. 2015, appendix C. 0 where it is not `enabled`.
    """
    square = jnp.where(enabled, direction.square, 1.0)
    return jnp.where(enabled, direction.cg.x * jnp.sqrt(2.0 * target_kl / square), 0.0)


def search_along(
    full_step: Float[jax.Array, " p"],
    trouble: jax.Array,
    *,
    policy: PolicyFunction,
    theta: Float[jax.Array, " p"],
    old: Distribution,
    weights: Float[jax.Array, "n 1"] | None,
    merit: Callable[[Distribution], jax.Array],
    options: StepOptions,
    numbers: StepNumbers,
) -> tuple[LineSearchResult, jax.Array, Distribution]:
    """Search the line of a step, unless there is trouble.

    Args:
        full_step: Longest step.
        trouble: Why it could not be computed; ACCEPTED where it could.
        policy: Flat parameters -> distribution at each sample.
        theta: Old parameters.
        old: Distribution there.
        weights: Of each sample; None where all count alike.
        merit: Distribution -> number [], above 0 where it is better than the old.
        options: What is computed.
        numbers: Of this update.

    Returns:
        The search's outcome, the step's status, and the policy at the new parameters.
    """

    def evaluate(candidate: jax.Array) -> tuple[jax.Array, jax.Array]:
        new = policy(candidate)
        return merit(new), mean_kl(old, new, weights)

    sound = trouble == StepStatus.ACCEPTED
    search = LINE_SEARCHES[options.line_search](
        evaluate,
        theta,
        full_step,
        target_kl=numbers.target_kl,
        backtrack_coeff=numbers.backtrack_coeff,
        backtrack_iters=options.backtrack_iters,
        enabled=sound,
    )
    rejected = sound & ~search.accepted
    status = jnp.where(rejected, StepStatus.LINE_SEARCH_EXHAUSTED, trouble)
    return search, status, policy(search.theta)


def local_model(
    step: jax.Array, gradient: Direction, numbers: StepNumbers
) -> LocalModel:
    """Predictions for a step to the trust region's border."""
    length_sq = inner(step, step)
    return LocalModel(
        step,
        jnp.sqrt(length_sq),
        gradient.norm * inner(gradient.unit, step),
        # s'(F + damping)s / 2 is target_kl by construction.
        numbers.target_kl - 0.5 * numbers.cg_damping * length_sq,
    )


def trouble_of(direction: Direction) -> jax.Array:
    """Why no step can be computed; ACCEPTED where one can."""
    norm, _, cg, square = direction
    numbers = jnp.stack([norm, cg.residual_sq, cg.curvature, square])
    return jnp.select(
        [
            ~jnp.isfinite(numbers).all(),
            norm <= ZERO_GRADIENT_NORM,
            (cg.curvature <= 0.0) | (square <= 0.0),
        ],
        [
            jnp.int32(StepStatus.NON_FINITE),
            jnp.int32(StepStatus.ZERO_GRADIENT),
            jnp.int32(StepStatus.NON_POSITIVE_CURVATURE),
        ],
        jnp.int32(StepStatus.ACCEPTED),
    )


def summary(
    new: Distribution,
    batch: Batch,
    before: Surrogate,
    cg: CGResult,
    model: LocalModel,
    search: LineSearchResult,
    status: jax.Array,
) -> PolicyStep:
    """The outcome: `new` is the policy at the search's `theta`."""
    after, weights = surrogate(new, batch), batch.weights
    predicted = search.frac * model.improvement
    return PolicyStep(
        theta=search.theta,
        cg_solution=cg.x,
        full_step=model.step,
        surrogate_before=before.value,
        surrogate_after=before.value + search.improvement,
        improvement=search.improvement,
        kl=search.kl,
        entropy=mean(new.entropy(), weights),
        step_norm=model.norm,
        expected_improve=model.improvement,
        line_search_frac=search.frac,
        line_search_accepted=search.accepted,
        ratio_mean=mean(after.ratio, weights),
        ratio_std=jnp.sqrt(variance(after.ratio, weights)),
        old_approx_kl=-mean(after.log_ratio, weights),
        cg_iterations=cg.num_steps,
        cg_residual=jnp.sqrt(cg.residual_sq),
        status=status,
        predicted_kl=search.frac**2 * model.kl,
        agreement=jnp.where(
            predicted > 0,
            search.improvement / jnp.where(predicted > 0, predicted, 1.0),
            0.0,
        ),
    )
