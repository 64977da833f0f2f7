"""Fits of a critic by steps on the whole batch, by their names in `value_fit`."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo.config.run import TRPOConfig
from trpo_torch import lbfgs
from trpo_torch.critic.loss import Regression, loss_and_gradient, mean, weights
from trpo_torch.networks import mlp
from trpo_torch.networks.feedforward import Critic
from trpo_torch.solvers.conjugate_gradient import conjugate_gradient, inner
from trpo_torch.solvers.line_search import line_search


class ValueJacobian(NamedTuple):
    """The values of the whole batch at some parameters, and their Jacobian J there.

    Attributes:
        values: shaped like the returns.
        push: v [p] -> J v, shaped like them.
        pull: u, shaped like them -> J'u [p].
    """

    values: Tensor
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]


def linearize(regression: Regression, theta: Float[Tensor, " p"]) -> ValueJacobian:
    """The values at flat parameters and their Jacobian, kept for all products."""
    critic = regression.critic
    if isinstance(critic, Critic) and critic.architecture.by_hand:
        return _by_hand(critic, regression, theta)
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        values = _values_at(regression, theta)
        # u -> J'u is linear: its own derivative is the v -> Jv that reverse mode lacks.
        u = torch.zeros_like(values).requires_grad_()
        (jt_u,) = torch.autograd.grad(values, theta, u, create_graph=True)

    def push(v: Tensor) -> Tensor:
        return torch.autograd.grad(jt_u, u, v, retain_graph=True)[0]

    def pull(cotangent: Tensor) -> Tensor:
        return torch.autograd.grad(values, theta, cotangent, retain_graph=True)[0]

    return ValueJacobian(values.detach(), push, pull)


@torch.no_grad()
def gauss_newton(
    regression: Regression, _optimizer: torch.optim.Optimizer, config: TRPOConfig
) -> Float[Tensor, " steps"]:
    """Damped Gauss-Newton steps on the whole batch, in place; one in each epoch.

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
        _optimizer: Not used; its state stays.
        config: `value_epochs` steps; conjugate gradient and line search as the
            policy's; damping and radius.

    Returns:
        The loss before each step.
    """
    theta, losses = regression.flat(), []
    for _ in range(config.value_epochs):
        theta, before = _gauss_newton_step(regression, theta, config)
        losses.append(before)
    regression.assign(theta)
    return torch.stack(losses)


@torch.no_grad()
def quasi_newton(
    regression: Regression, _optimizer: torch.optim.Optimizer, config: TRPOConfig
) -> Float[Tensor, " 1"]:
    """L-BFGS on the whole batch, in place; at most a step for each epoch.

    As of pytorch-trpo's critic, which takes up to 25.

    Args:
        regression: What to fit.
        _optimizer: Not used; its state stays.
        config: Says the number of steps.

    Returns:
        The mean of the losses before each step.
    """
    theta = regression.flat()
    gradient = torch.empty_like(theta)
    find = loss_and_gradient(regression, gradient)

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        regression.assign(x)
        return find(regression.whole), gradient.clone()

    minimum = lbfgs.minimize(function, theta, config.value_epochs)
    regression.assign(minimum.point.x)
    return minimum.mean_loss.reshape(1)


WHOLE_BATCH_FITTERS = {
    "gauss_newton": gauss_newton,
    "lbfgs": quasi_newton,
}


def _gauss_newton_step(
    regression: Regression, theta: Tensor, config: TRPOConfig
) -> tuple[Tensor, Tensor]:
    """New parameters, and the loss at the old ones."""
    targets, loss = regression.whole.targets, regression.loss
    share = weights(targets)
    values, push, pull = linearize(regression, theta)
    terms, slopes = loss.of(values, targets)
    gradient = pull(share * slopes)
    norm = torch.sqrt(inner(gradient, gradient))
    # Of length 1, so that the residual's tolerance is relative.
    b = -gradient / torch.where(norm > 0, norm, 1.0)
    curvature = share * loss.curvature(values, targets)
    cg = conjugate_gradient(
        lambda v: pull(curvature * push(v)) + config.value_damping * v,
        b,
        config.cg_iters,
        config.cg_residual_tol,
    )
    step = norm * cg.x
    variance = (share * (values - targets.returns) ** 2).sum()

    def kl(change: Tensor) -> Tensor:
        return (share * change**2).sum() / (2.0 * variance)

    def evaluate(candidate: Tensor) -> tuple[Tensor, Tensor]:
        new = _values_at(regression, candidate)
        after, _ = loss.of(new, targets)
        return mean(terms - after, targets.valid), kl(new - values)

    shorter = torch.sqrt(config.value_target_kl / kl(push(step))).clamp(max=1.0)
    found = line_search(
        evaluate,
        theta,
        shorter * step,
        target_kl=config.value_target_kl,
        backtrack_coeff=config.backtrack_coeff,
        backtrack_iters=config.backtrack_iters,
    )
    return found.theta, mean(terms, targets.valid)


def _by_hand(
    critic: Critic, regression: Regression, theta: Float[Tensor, " p"]
) -> ValueJacobian:
    activation = critic.architecture.activation
    layers = mlp.layers_of(regression.views(theta))
    values, (inputs, transposed) = mlp.record(
        layers, regression.whole.inputs, activation
    )

    def push(v: Tensor) -> Tensor:
        tangents = mlp.layers_of(regression.views(v))
        return mlp.push(layers, inputs, tangents, activation)

    def pull(cotangent: Tensor) -> Tensor:
        flat = torch.empty_like(theta)
        into = mlp.layers_of(regression.views(flat))
        mlp.pull(layers, inputs, cotangent, into, activation, transposed)
        return flat

    return ValueJacobian(values, push, pull)


def _values_at(regression: Regression, theta: Float[Tensor, " p"]) -> Tensor:
    return regression.values(regression.views(theta), regression.whole.inputs)
