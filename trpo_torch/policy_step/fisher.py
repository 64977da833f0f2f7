"""Products with the damped Fisher matrix, by two independent routes.

Both linearise once and are then called for each conjugate-gradient iteration. They
are equal at the old parameters, where the gradient of KL vanishes.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo_torch.devices import reduction
from trpo_torch.distributions import Distribution
from trpo_torch.policy_step.objective import mean_kl


PolicyFunction = Callable[[Tensor], Distribution]
Product = Callable[[Tensor], Tensor]


class Linearization(NamedTuple):
    """A function at a point, and its Jacobian J there.

    Attributes:
        distribution: at each sample.
        jvp: tangents v of what the function is of -> J v, shaped like `distribution`.
        vjp: u, shaped like `distribution` -> J'u, shaped like the tangents.
    """

    distribution: Distribution
    jvp: Callable[..., Distribution]
    vjp: Callable[[Distribution], tuple[Tensor, ...]]


@functools.singledispatch
@torch.enable_grad()
def linearize(function: Callable[..., Distribution], *at: Tensor) -> Linearization:
    """As `jax.linearize` and `jax.linear_transpose`, the forward pass kept.

    The graph of J'u is built once. u -> J'u is linear, so its own derivative is the
    v -> Jv that reverse mode lacks. What has another way (`fast/`) registers it here.

    Args:
        function: Of tensors, twice differentiable; a policy's is of theta [p].
        at: The tensors.
    """
    at = tuple(tensor.detach().requires_grad_() for tensor in at)
    outputs = function(*at)
    fields = tuple(outputs)
    u = tuple(torch.zeros_like(field).requires_grad_() for field in fields)
    jt_u = torch.autograd.grad(fields, at, u, create_graph=True)

    def jvp(*v: Tensor) -> Distribution:
        return outputs._make(torch.autograd.grad(jt_u, u, v, retain_graph=True))

    def vjp(u: Distribution) -> tuple[Tensor, ...]:
        return torch.autograd.grad(fields, at, tuple(u), retain_graph=True)

    distribution = outputs._make(field.detach() for field in fields)
    return Linearization(distribution, jvp, vjp)


@functools.singledispatch
def gauss_newton_product(
    policy: PolicyFunction, theta: Float[Tensor, " p"], damping: float | Tensor
) -> Product:
    """v -> (J' M J + damping) v, with J the Jacobian of the policy's outputs.

    M is the Fisher matrix of the distribution in its own parameters, so the product
    is positive semidefinite by construction (Schulman et al. 2015, appendix C).

    Args:
        policy: Flat parameters -> distribution at each sample.
        theta: Flat parameters.
        damping: Multiple of the identity that is added.
    """
    distribution, jvp, vjp = linearize(policy, theta)

    def product(v: Tensor) -> Tensor:
        metric_times_jvp = distribution.fisher_metric(jvp(v))
        (f_v,) = vjp(reduction.weighted(metric_times_jvp))
        return reduction.total(f_v) + damping * v

    return product


@functools.singledispatch
@torch.enable_grad()
def kl_hessian_product(
    policy: PolicyFunction, theta: Float[Tensor, " p"], damping: float | Tensor
) -> Product:
    """v -> (H + damping) v, with H the Hessian of mean KL(old || new) at the old.

    By double backward: the gradient of KL is built once, and v'grad differentiated.

    Args:
        policy: Flat parameters -> distribution at each sample.
        theta: Flat parameters.
        damping: Multiple of the identity that is added.
    """
    theta = theta.detach().requires_grad_()
    distribution = policy(theta)
    old = distribution._make(field.detach() for field in distribution)
    (kl_grad,) = torch.autograd.grad(
        mean_kl(old, distribution), theta, create_graph=True
    )

    def product(v: Tensor) -> Tensor:
        (h_v,) = torch.autograd.grad(kl_grad, theta, v, retain_graph=True)
        return reduction.total(h_v) + damping * v

    return product


FISHER_PRODUCTS = {
    "gauss_newton": gauss_newton_product,
    "kl_hessian": kl_hessian_product,
}
