"""Conjugate-gradient solver (Hestenes and Stiefel 1952)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int


class CGResult(NamedTuple):
    """Outcome of a conjugate-gradient solve of A x = b from x = 0.

    Attributes:
        x: [p] last iterate.
        residual: [p] recursive residual b - A x.
        residual_sq: its squared norm, in units of b squared.
        num_steps: products A p spent.
        curvature: last p' A p; the solve ended early unless it is positive and finite.
    """

    x: Float[jax.Array, " p"]
    residual: Float[jax.Array, " p"]
    residual_sq: Float[jax.Array, ""]
    num_steps: Int[jax.Array, ""]
    curvature: Float[jax.Array, ""]


class _CGState(NamedTuple):
    x: Float[jax.Array, " p"]
    r: Float[jax.Array, " p"]
    p: Float[jax.Array, " p"]
    rr: Float[jax.Array, ""]
    basis: Float[jax.Array, "max_steps p"]
    num_steps: Int[jax.Array, ""]
    curvature: Float[jax.Array, ""]


def conjugate_gradient(
    matvec: Callable[[jax.Array], jax.Array],
    b: Float[jax.Array, " p"],
    max_steps: int,
    residual_tol: float | jax.Array,
) -> CGResult:
    """Solve A x = b for a symmetric positive definite A given as `matvec`.

    Stops after `max_steps` products, or when the squared residual is at most
    `residual_tol`, or at a direction of non-positive (or not finite) curvature, which
    leaves `x` at the iterate before it.

    Differs from the textbook: each residual is made orthogonal to those before it,
    which it is in exact arithmetic. Without that, rounding errors along eigenvectors
    already solved for grow by a factor of about lambda_max / lambda in each step, and
    after ten steps half of the digits are noise. Costs 4 * num_steps * p operations a
    step, little beside a product, and max_steps * p numbers of memory.
    """

    def keep_going(s: _CGState) -> Bool[jax.Array, ""]:
        return (s.num_steps < max_steps) & (s.rr > residual_tol) & is_sound(s.curvature)

    def step(s: _CGState) -> _CGState:
        basis = s.basis.at[s.num_steps].set(s.r / jnp.sqrt(s.rr))
        a_p = matvec(s.p)
        p_a_p = inner(s.p, a_p)
        sound = is_sound(p_a_p)
        alpha = jnp.where(sound, s.rr / jnp.where(sound, p_a_p, 1.0), 0.0)
        # `where` on the vectors too: 0 * inf in an unsound product would be NaN.
        x = jnp.where(sound, s.x + alpha * s.p, s.x)
        r = jnp.where(sound, s.r - alpha * a_p, s.r)
        # Rows not yet filled are zero and take nothing away.
        r = jnp.where(sound, r - (basis @ r) @ basis, s.r)
        rr = jnp.where(sound, inner(r, r), s.rr)
        p = r + (rr / s.rr) * s.p
        return _CGState(x, r, p, rr, basis, s.num_steps + 1, p_a_p)

    start = _CGState(
        x=jnp.zeros_like(b),
        r=b,
        p=b,
        rr=inner(b, b),
        # Residuals so far, normalised.
        basis=jnp.zeros((max_steps, b.shape[0]), b.dtype),
        num_steps=jnp.zeros((), jnp.int32),
        curvature=jnp.ones((), b.dtype),
    )
    end = jax.lax.while_loop(keep_going, step, start)
    return CGResult(end.x, end.r, end.rr, end.num_steps, end.curvature)


def inner(a: Float[jax.Array, " p"], b: Float[jax.Array, " p"]) -> Float[jax.Array, ""]:
    """a'b; XLA's own product is as accurate as summing in pairs."""
    return jnp.dot(a, b)


def is_sound(curvature: jax.Array) -> jax.Array:
    """Whether p'Ap is positive and finite."""
    return (curvature > 0) & (curvature < jnp.inf)
