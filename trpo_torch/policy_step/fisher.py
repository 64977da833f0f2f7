"""Products with the damped Fisher matrix, by two independent routes.

Both linearise once and are then called for each conjugate-gradient iteration. They
are equal at the old parameters, where the gradient of KL vanishes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo_torch.devices import reduction
from trpo_torch.devices.chunked import ChunkedPolicy
from trpo_torch.distributions import Distribution
from trpo_torch.policy_step.flat_policy import FlatPolicy
from trpo_torch.policy_step.objective import mean_kl


class Linearization(NamedTuple):
    """A policy at its parameters, and the Jacobian J of its outputs there.

    Attributes:
        distribution: at each sample.
        push: v [p] -> J v, shaped like `distribution`.
        pull: u, shaped like `distribution` -> J'u [p].
    """

    distribution: Distribution
    push: Callable[[Tensor], Distribution]
    pull: Callable[[Distribution], Tensor]


def linearize(
    policy: Callable[[Tensor], Distribution], theta: Float[Tensor, " p"]
) -> Linearization:
    """The policy's outputs at `theta` and their Jacobian, kept for all products.

    The forward pass and the graph of J'u are built once. u -> J'u is linear, so its own
    derivative is the v -> Jv that reverse mode lacks.

    Args:
        policy: Flat parameters -> distribution at each sample; twice differentiable.
        theta: Flat parameters.
    """
    theta = theta.detach().requires_grad_()
    distribution = policy(theta)
    u = distribution._make(torch.zeros_like(o).requires_grad_() for o in distribution)
    outputs = tuple(distribution)
    (jt_u,) = torch.autograd.grad(outputs, theta, tuple(u), create_graph=True)

    def push(v: Tensor) -> Distribution:
        return distribution._make(
            torch.autograd.grad(jt_u, tuple(u), v, retain_graph=True)
        )

    def pull(cotangent: Distribution) -> Tensor:
        u = tuple(cotangent)
        return torch.autograd.grad(outputs, theta, u, retain_graph=True)[0]

    at = distribution._make(field.detach() for field in distribution)
    return Linearization(at, push, pull)


PolicyFunction = Callable[[Tensor], Distribution]
Product = Callable[[Tensor], Tensor]


def metric_product(policy: PolicyFunction, theta: Float[Tensor, " p"]) -> Product:
    """v -> J' M J v of the samples at hand, linearised once.

    A `FlatPolicy` knows its own; that of any other function is made of `linearize`'s.
    """
    if isinstance(policy, FlatPolicy):
        return policy.metric_product(theta)
    distribution, push, pull = linearize(policy, theta)

    def product(v: Tensor) -> Tensor:
        # v -> J v -> M J v -> J' M J v
        m_j_v = distribution.fisher_metric(push(v))
        return pull(reduction.weighted(m_j_v))

    return product


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
    times = metric_product(policy, theta)

    def product(v: Tensor) -> Tensor:
        return reduction.total(times(v)) + damping * v

    return product


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


def accumulated(build: Callable[..., Product]) -> Callable[..., Product]:
    """`build`, a function above, also for a policy in chunks.

    The product of each chunk is built anew each time, and only their sum is kept.
    """

    def build_for_any(
        policy: PolicyFunction, theta: Float[Tensor, " p"], damping: Any
    ) -> Product:
        if not isinstance(policy, ChunkedPolicy):
            return build(policy, theta, damping)

        def product(v: Tensor) -> Tensor:
            f_v = policy.total(lambda part: build(part, theta, 0.0)(v))
            return reduction.total(f_v) + damping * v

        return product

    return build_for_any


FISHER_PRODUCTS = {
    "gauss_newton": accumulated(gauss_newton_product),
    "kl_hessian": accumulated(kl_hessian_product),
}
