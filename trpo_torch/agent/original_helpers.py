"""The original agent's helpers, under its names and signatures."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trpo_torch.agent.state import flat_params, set_flat_params
from trpo_torch.distributions.gaussian import DiagonalGaussian
from trpo_torch.solvers.conjugate_gradient import conjugate_gradient


_flat_params = flat_params
_set_flat_params = set_flat_params


def _flat_grads(grads: Sequence[Tensor | None], params: Sequence[Tensor]) -> Tensor:
    """Gradients as one vector [p]; zeros where a parameter has none."""
    return torch.cat(
        [
            (torch.zeros_like(param) if grad is None else grad).reshape(-1)
            for grad, param in zip(grads, params, strict=True)
        ]
    )


def _conjugate_gradient(
    Avp: Callable[[Tensor], Tensor],
    b: Tensor,
    nsteps: int,
    residual_tol: float = 1e-10,
) -> Tensor:
    """Solution [p] of A x = b; stops when the squared residual is at most the bound."""
    return conjugate_gradient(Avp, b, nsteps, residual_tol).x


def _kl_old_to_new(
    old_mean: Tensor, old_log_std: Tensor, new_mean: Tensor, new_log_std: Tensor
) -> Tensor:
    """KL(old || new) of each sample, [N, 1]."""
    old = DiagonalGaussian(old_mean, old_log_std)
    return old.kl(DiagonalGaussian(new_mean, new_log_std))
