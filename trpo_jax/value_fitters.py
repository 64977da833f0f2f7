"""Fits of a critic by steps on the whole batch, by their names in `value_fit`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from trpo.config.run import TRPOConfig
from trpo_jax import lbfgs
from trpo_jax.critic.loss import Regression, loss_and_gradient, mean, weights
from trpo_jax.networks.feedforward import Parameters
from trpo_jax.solvers.conjugate_gradient import conjugate_gradient, inner
from trpo_jax.solvers.line_search import line_search


class ValueJacobian(NamedTuple):
    """The values of the whole batch at some parameters, and their Jacobian J there.

    Attributes:
        values: shaped like the returns.
        push: v [p] -> J v, shaped like them.
        pull: u, shaped like them -> J'u [p].
    """

    values: jax.Array
    push: Callable[[jax.Array], jax.Array]
    pull: Callable[[jax.Array], jax.Array]


def linearize(
    values_at: Callable[[jax.Array], jax.Array], theta: Float[jax.Array, " p"]
) -> ValueJacobian:
    """The values at flat parameters and their Jacobian, kept for all products."""
    values, push = jax.linearize(values_at, theta)
    transpose = jax.linear_transpose(push, theta)
    return ValueJacobian(values, push, lambda u: transpose(u)[0])


def gauss_newton(
    regression: Regression,
    parameters: Parameters,
    _optimizer: optax.GradientTransformation,
    optimizer_state: Any,
    config: TRPOConfig,
) -> tuple[Parameters, Any, Float[jax.Array, " steps"]]:
    """Damped Gauss-Newton steps on the whole batch; one in each epoch.

    With J the Jacobian of the N values, the step solves by conjugate gradient
    (J'CJ / N + damping) s = -J'u / N, where u and C are the loss's slopes and
    curvatures; of the squared error, u = v - y and C = 1. Schulman et al. 2016 (GAE),
    section 5, eqs. 30-31: it is then shortened so that the linear change J s keeps
    mean((J s)**2) / (2 sigma**2) within `value_target_kl`, sigma**2 the mean squared
    error before it, which is the mean KL of Gaussians round the values. Differs from
    there: a step that would leave the region is shortened, none is lengthened; the line
    search of the policy's step then sees to the change itself, and to the loss.

    Args:
        regression: What to fit.
        parameters: To begin with.
        _optimizer: Not used.
        optimizer_state: Returned as it is.
        config: `value_epochs` steps; conjugate gradient and line search as the
            policy's; damping and radius.

    Returns:
        New parameters, the optimiser's state, and the loss before each step.
    """
    theta, unravel = ravel_pytree(parameters)
    inputs = regression.whole.inputs

    def values_at(theta: jax.Array) -> jax.Array:
        return regression.values(unravel(theta), inputs)

    def step(theta: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return _gauss_newton_step(regression, values_at, theta, config)

    theta, losses = jax.lax.scan(step, theta, length=config.value_epochs)
    return unravel(theta), optimizer_state, losses


def quasi_newton(
    regression: Regression,
    parameters: Parameters,
    _optimizer: optax.GradientTransformation,
    optimizer_state: Any,
    config: TRPOConfig,
) -> tuple[Parameters, Any, Float[jax.Array, " 1"]]:
    """L-BFGS on the whole batch; at most a step for each epoch.

    As of pytorch-trpo's critic, which takes up to 25.

    Args:
        regression: What to fit.
        parameters: To begin with.
        _optimizer: Not used.
        optimizer_state: Returned as it is.
        config: Says the number of steps.

    Returns:
        New parameters, the optimiser's state, and the mean of the losses before each
        step.
    """
    theta, unravel = ravel_pytree(parameters)
    find = loss_and_gradient(regression, regression.whole)

    def function(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        loss, gradient = find(unravel(x))
        return loss, ravel_pytree(gradient)[0]

    minimum = lbfgs.minimize(function, theta, config.value_epochs)
    return unravel(minimum.point.x), optimizer_state, minimum.mean_loss.reshape(1)


WHOLE_BATCH_FITTERS = {
    "gauss_newton": gauss_newton,
    "lbfgs": quasi_newton,
}


def _gauss_newton_step(
    regression: Regression,
    values_at: Callable[[jax.Array], jax.Array],
    theta: jax.Array,
    config: TRPOConfig,
) -> tuple[jax.Array, jax.Array]:
    """New parameters, and the loss at the old ones."""
    targets, loss = regression.whole.targets, regression.loss
    share = weights(targets)
    values, push, pull = linearize(values_at, theta)
    terms, slopes = loss.of(values, targets)
    gradient = pull(share * slopes)
    norm = jnp.sqrt(inner(gradient, gradient))
    # Of length 1, so that the residual's tolerance is relative.
    b = -gradient / jnp.where(norm > 0, norm, 1.0)
    curvature = share * loss.curvature(values, targets)
    cg = conjugate_gradient(
        lambda v: pull(curvature * push(v)) + config.value_damping * v,
        b,
        config.cg_iters,
        config.cg_residual_tol,
    )
    step = norm * cg.x
    variance = (share * (values - targets.returns) ** 2).sum()

    def kl(change: jax.Array) -> jax.Array:
        return (share * change**2).sum() / (2.0 * variance)

    def evaluate(candidate: jax.Array) -> tuple[jax.Array, jax.Array]:
        new = values_at(candidate)
        after, _ = loss.of(new, targets)
        return mean(terms - after, targets.valid), kl(new - values)

    shorter = jnp.minimum(jnp.sqrt(config.value_target_kl / kl(push(step))), 1.0)
    found = line_search(
        evaluate,
        theta,
        shorter * step,
        target_kl=config.value_target_kl,
        backtrack_coeff=config.backtrack_coeff,
        backtrack_iters=config.backtrack_iters,
    )
    return found.theta, mean(terms, targets.valid)
