"""The Jacobian of any policy, by automatic differentiation.

That of the plain tanh network is written by hand (`networks/mlp.py`), which is faster;
this one serves every other.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo_torch.distributions import Distribution


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
    (jt_u,) = torch.autograd.grad(distribution, theta, u, create_graph=True)

    def push(v: Tensor) -> Distribution:
        return distribution._make(
            torch.autograd.grad(jt_u, tuple(u), v, retain_graph=True)
        )

    def pull(cotangent: Distribution) -> Tensor:
        return torch.autograd.grad(distribution, theta, cotangent, retain_graph=True)[0]

    at = distribution._make(field.detach() for field in distribution)
    return Linearization(at, push, pull)
