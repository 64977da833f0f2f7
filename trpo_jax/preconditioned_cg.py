"""Conjugate gradient with a preconditioner, from any start (Hestenes and Stiefel 1952).

Kept apart from `solvers/conjugate_gradient.py`, which is this without either: the
default path pays for nothing that it does not use.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from trpo_jax.solvers.conjugate_gradient import CGResult, inner, is_sound


class _State(NamedTuple):
    x: Float[jax.Array, " p"]
    r: Float[jax.Array, " p"]
    z: Float[jax.Array, " p"]
    p: Float[jax.Array, " p"]
    rr: Float[jax.Array, ""]
    rz: Float[jax.Array, ""]
    basis: Float[jax.Array, "max_steps p"]
    dual: Float[jax.Array, "max_steps p"]
    num_steps: Int[jax.Array, ""]
    curvature: Float[jax.Array, ""]


def preconditioned_conjugate_gradient(
    matvec: Callable[[jax.Array], jax.Array],
    b: Float[jax.Array, " p"],
    max_steps: int,
    residual_tol: float | jax.Array,
    start: Float[jax.Array, " p"] | None = None,
    precondition: Callable[[jax.Array], jax.Array] | None = None,
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

    def keep_going(s: _State) -> Bool[jax.Array, ""]:
        return (s.num_steps < max_steps) & (s.rr > residual_tol) & is_sound(s.curvature)

    def step(s: _State) -> _State:
        basis = s.basis.at[s.num_steps].set(s.r / jnp.sqrt(s.rz))
        dual = s.dual.at[s.num_steps].set(s.z / jnp.sqrt(s.rz))
        a_p = matvec(s.p)
        p_a_p = inner(s.p, a_p)
        sound = is_sound(p_a_p)
        alpha = jnp.where(sound, s.rz / jnp.where(sound, p_a_p, 1.0), 0.0)
        # `where` on the vectors too: 0 * inf in an unsound product would be NaN.
        x = jnp.where(sound, s.x + alpha * s.p, s.x)
        r = jnp.where(sound, s.r - alpha * a_p, s.r)
        # Rows not yet filled are zero and take nothing away.
        r = jnp.where(sound, r - (dual @ r) @ basis, s.r)
        z = solve(r)
        rr, rz = inner(r, r), inner(r, z)
        p = z + (rz / s.rz) * s.p
        return _State(x, r, z, p, rr, rz, basis, dual, s.num_steps + 1, p_a_p)

    x, r, num_steps = _begin(matvec, b, start)
    z = solve(r)
    # Residuals so far, and M^-1 times them, scaled so that their products are 1.
    empty = jnp.zeros((max_steps, b.shape[0]), b.dtype)
    count, curvature = jnp.asarray(num_steps, jnp.int32), jnp.ones((), b.dtype)
    first = _State(x, r, z, z, inner(r, r), inner(r, z), empty, empty, count, curvature)
    end = jax.lax.while_loop(keep_going, step, first)
    return CGResult(end.x, end.r, end.rr, end.num_steps, end.curvature)


def _begin(
    matvec: Callable[[jax.Array], jax.Array], b: jax.Array, start: jax.Array | None
) -> tuple[jax.Array, jax.Array, int]:
    """Where to begin, the residual there, and products spent."""
    zero = jnp.zeros_like(b)
    if start is None:
        return zero, b, 0
    residual = b - matvec(start)
    useful = inner(start, b + residual) > 0.0
    return jnp.where(useful, start, zero), jnp.where(useful, residual, b), 1
