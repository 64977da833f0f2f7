"""One trust-region step of the policy, a pure function of its arguments."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch
from trpo.data.report import StepStatus
from trpo_jax import distributions
from trpo_jax.devices import reduction
from trpo_jax.distributions import Distribution
from trpo_jax.policy_step.fisher import PolicyFunction
from trpo_jax.policy_step.objective import (
    SURROGATE,
    Objective,
    Surrogate,
    mean_kl,
    surrogate,
)
from trpo_jax.policy_step.step_parts import LinearSystem, step_parts
from trpo_jax.solvers.conjugate_gradient import CGResult, inner
from trpo_jax.solvers.line_search import LineSearchResult
from trpo_jax.step_memory import NO_MEMORY, StepMemory, damping_of, remember


# A gradient of this Euclidean norm or less is rounding error.
ZERO_GRADIENT_NORM = 1e-12


class PolicyStep(NamedTuple):
    """Outcome of a trust-region step; scalars are `trpo.data.report.UpdateReport`'s.

    Attributes:
        theta: [p] new parameters; the old ones, bit for bit, unless ACCEPTED.
        cg_solution: [p] conjugate gradient's solution of (F + damping) x = g / |g|.
        full_step: [p] longest step the line search tried.
        memory: for the next step.
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
    memory: StepMemory = NO_MEMORY


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


def policy_step(
    policy: PolicyFunction,
    theta: Float[jax.Array, " p"],
    batch: Batch,
    config: TRPOConfig,
    target_kl: float | jax.Array | None = None,
    memory: StepMemory = NO_MEMORY,
    fisher_policy: PolicyFunction | None = None,
) -> PolicyStep:
    """Natural-gradient step onto the trust region's border, then a line search.

    Args:
        policy: Flat parameters -> distribution at each sample of the batch.
        theta: Old parameters.
        batch: Samples.
        config: Hyperparameters.
        target_kl: Trust-region radius, nats; the configuration's if None.
        memory: Of the step before.
        fisher_policy: The policy at the samples that Fisher products are means over;
            `policy` if None.
    """
    parts = step_parts(config)
    target_kl = config.target_kl if target_kl is None else target_kl
    old, before, gradient = surrogate_and_gradient(
        policy, theta, batch, parts.objective
    )
    grad_norm = jnp.sqrt(inner(gradient, gradient))
    # The unit-norm right-hand side makes the residual's tolerance relative, and the
    # solution independent of the advantages' scale.
    b = gradient / jnp.where(grad_norm > 0, grad_norm, 1.0)
    damping = damping_of(config, memory)
    product = parts.curvature(fisher_policy or policy, theta, damping)
    cg = parts.solver(LinearSystem(product, b, memory), config)
    # x'(F + damping)x without one more product: A x = b - r.
    x_f_x = inner(cg.x, b - cg.residual)
    trouble = trouble_of(grad_norm, cg, x_f_x)
    sound = trouble == StepStatus.ACCEPTED
    scaled = parts.scaling(cg.x, jnp.where(sound, x_f_x, 1.0), target_kl)
    full_step = jnp.where(sound, scaled, 0.0)

    search = parts.search(
        _evaluator(policy, old, batch, before.ratio, parts.objective),
        theta,
        full_step,
        target_kl=target_kl,
        backtrack_coeff=config.backtrack_coeff,
        backtrack_iters=config.backtrack_iters,
        enabled=sound,
    )
    rejected = sound & ~search.accepted
    status = jnp.where(rejected, StepStatus.LINE_SEARCH_EXHAUSTED, trouble)
    new = policy(search.theta)
    model = local_model(full_step, grad_norm, b, target_kl, damping)
    step = summary(new, batch, before, cg, model, search, status)
    return step._replace(memory=remember(memory, config, cg.x, step.agreement, status))


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
    return old, before, reduction.total(gradient)


def _evaluator(
    policy: PolicyFunction,
    old: Distribution,
    batch: Batch,
    ratio: jax.Array,
    objective: Objective,
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """Improvement and KL of the parameters that the line search tries."""

    def evaluate(candidate: jax.Array) -> tuple[jax.Array, jax.Array]:
        new = policy(candidate)
        return reduction.together(
            lambda: (
                objective.improvement(old, new, batch, ratio),
                mean_kl(old, new),
            )
        )

    return evaluate


def local_model(
    step: jax.Array,
    grad_norm: jax.Array,
    b: jax.Array,
    target_kl: float | jax.Array,
    damping: float | jax.Array,
) -> LocalModel:
    """Predictions for a step to the trust region's border; `b` is the unit gradient."""
    length_sq = inner(step, step)
    return LocalModel(
        step,
        jnp.sqrt(length_sq),
        grad_norm * inner(b, step),
        # s'(F + damping)s / 2 is target_kl by construction.
        target_kl - 0.5 * damping * length_sq,
    )


def trouble_of(grad_norm: jax.Array, cg: CGResult, x_f_x: jax.Array) -> jax.Array:
    """Why no step can be computed; ACCEPTED where one can."""
    numbers = jnp.stack([grad_norm, cg.residual_sq, cg.curvature, x_f_x])
    return jnp.select(
        [
            ~jnp.isfinite(numbers).all(),
            grad_norm <= ZERO_GRADIENT_NORM,
            (cg.curvature <= 0.0) | (x_f_x <= 0.0),
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
    """The outcome, without a memory: `new` is the policy at the search's `theta`."""
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
        entropy=reduction.mean(distributions.entropy(new)),
        step_norm=model.norm,
        expected_improve=model.improvement,
        line_search_frac=search.frac,
        line_search_accepted=search.accepted,
        ratio_mean=reduction.mean(after.ratio),
        ratio_std=jnp.sqrt(reduction.variance(after.ratio)),
        old_approx_kl=-reduction.mean(after.log_ratio),
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
