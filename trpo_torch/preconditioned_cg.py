"""Conjugate gradient with a preconditioner, from any start (Hestenes and Stiefel 1952).

Kept apart from `solvers/conjugate_gradient.py`, which is this without either: the
default path pays for nothing that it does not use.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from trpo_torch.devices.device import to_floats
from trpo_torch.solvers.conjugate_gradient import CGResult, inner


def preconditioned_conjugate_gradient(
    matvec: Callable[[Tensor], Tensor],
    b: Float[Tensor, " p"],
    max_steps: int,
    residual_tol: float,
    start: Float[Tensor, " p"] | None = None,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> CGResult:
    """`conjugate_gradient` from `start`, in the metric of a preconditioner M.

    The same solution, with the same stop at |b - A x|^2 <= `residual_tol`, in fewer
    products the nearer M is to A. Residuals are kept orthogonal in M^-1, as there.

    Args:
        matvec: v -> A v.
        b: Right-hand side.
        max_steps: Most products, one for the start's residual included.
        residual_tol: Bound of the squared residual.
        start: x to begin with; taken for 0 unless x'(b + r) > 0 for its residual r,
            where x'Ax / 2 - b'x, which the iterations lower, is less than at 0: so
            that the solution is an ascent direction always. None for 0.
        precondition: v -> M^-1 v, symmetric and positive definite; None for v.
    """
    solve = precondition or (lambda v: v)
    x, r, num_steps = _begin(matvec, b, start)
    p = z = solve(r)
    rr, rz = inner(r, r), inner(r, z)
    residual_sq, curvature = float(rr), 1.0
    # Residuals so far, and M^-1 times them, scaled so that their products are 1.
    basis, dual = (b.new_zeros(max_steps, b.shape[0]) for _ in range(2))
    while num_steps < max_steps and residual_sq > residual_tol:
        basis[num_steps], dual[num_steps] = r / torch.sqrt(rz), z / torch.sqrt(rz)
        a_p = matvec(p)
        p_a_p = inner(p, a_p)
        num_steps += 1
        alpha = rz / p_a_p
        r_next = r - alpha * a_p
        r_next = r_next - (dual[:num_steps] @ r_next) @ basis[:num_steps]
        curvature, residual_sq_next = to_floats(p_a_p, inner(r_next, r_next))
        if not 0.0 < curvature < float("inf"):
            break
        x, r, residual_sq = x + alpha * p, r_next, residual_sq_next
        z = solve(r)
        rz_next = inner(r, z)
        p = z + (rz_next / rz) * p
        rz = rz_next
    return CGResult(x, r, residual_sq, num_steps, curvature)


def _begin(
    matvec: Callable[[Tensor], Tensor], b: Tensor, start: Tensor | None
) -> tuple[Tensor, Tensor, int]:
    """Where to begin, the residual there, and products spent."""
    if start is None:
        return torch.zeros_like(b), b, 0
    residual = b - matvec(start)
    if float(inner(start, b + residual)) > 0.0:
        return start, residual, 1
    return torch.zeros_like(b), b, 1
