"""Backtracking line search on surrogate and KL (Schulman et al. 2015, appendix C)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int


class LineSearchResult(NamedTuple):
    """Outcome of a line search.

    Attributes:
        theta: [p] accepted parameters; the old ones, bit for bit, if none was accepted.
        frac: accepted fraction of the full step; 0 if none was accepted.
        improvement: [] surrogate's improvement at `theta`; 0 if none was accepted.
        kl: [] mean KL(old || new) at `theta`, nats; 0 if none was accepted.
        accepted: whether any candidate was accepted.
        num_candidates: candidates looked at, the accepted one included.
    """

    theta: Float[jax.Array, " p"]
    frac: Float[jax.Array, ""]
    improvement: Float[jax.Array, ""]
    kl: Float[jax.Array, ""]
    accepted: Bool[jax.Array, ""]
    num_candidates: Int[jax.Array, ""]


def line_search(
    evaluate: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    theta: Float[jax.Array, " p"],
    full_step: Float[jax.Array, " p"],
    *,
    target_kl: float | jax.Array,
    backtrack_coeff: float | jax.Array,
    backtrack_iters: int,
    enabled: Bool[jax.Array, ""] | bool = True,
) -> LineSearchResult:
    """First candidate that improves the surrogate inside the trust region.

    Tries theta + backtrack_coeff**j * full_step, j = 0, …, backtrack_iters - 1, and
    accepts the first with a finite improvement > 0 and KL <= target_kl. A comparison
    with NaN is false, so a candidate that overflows is rejected.

    Args:
        evaluate: Parameters -> (improvement [], mean KL []).
        theta: Old parameters.
        full_step: Longest step.
        target_kl: Trust-region radius, nats.
        backtrack_coeff: Factor between candidates.
        backtrack_iters: Most candidates.
        enabled: False tries no candidate at all; a traced value, unlike the bounds.
    """
    zero, one = jnp.zeros((), theta.dtype), jnp.ones((), theta.dtype)

    def keep_going(at: tuple[LineSearchResult, jax.Array]) -> jax.Array:
        s, _ = at
        return enabled & ~s.accepted & (s.num_candidates < backtrack_iters)

    def try_next(at: tuple[LineSearchResult, jax.Array]) -> tuple:
        s, frac = at
        candidate = theta + frac * full_step
        improvement, kl = evaluate(candidate)
        accepted = (improvement > 0.0) & (kl <= target_kl)
        accepted &= jnp.isfinite(improvement)
        looked_at = s.num_candidates + 1
        found = _result(accepted, theta, candidate, frac, improvement, kl, looked_at)
        return found, frac * backtrack_coeff

    start = LineSearchResult(
        theta, zero, zero, zero, jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    )
    return jax.lax.while_loop(keep_going, try_next, (start, one))[0]


def take_full_step(
    evaluate: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    theta: Float[jax.Array, " p"],
    full_step: Float[jax.Array, " p"],
    *,
    target_kl: float | jax.Array,
    backtrack_coeff: float | jax.Array,
    backtrack_iters: int,
    enabled: Bool[jax.Array, ""] | bool = True,
) -> LineSearchResult:
    """No search: the full step if its improvement and KL are finite.

    The step of the natural policy gradient, as in OmniSafe. Its KL may exceed the
    radius, and its improvement be negative: nothing but the local models speaks for it.
    """
    candidate = theta + full_step
    improvement, kl = evaluate(candidate)
    accepted = enabled & jnp.isfinite(improvement) & jnp.isfinite(kl)
    one = jnp.ones((), theta.dtype)
    looked_at = jnp.where(enabled, 1, 0)
    return _result(accepted, theta, candidate, one, improvement, kl, looked_at)


LINE_SEARCHES = {"sequential": line_search, "none": take_full_step}


def _result(
    accepted: jax.Array,
    theta: jax.Array,
    candidate: jax.Array,
    frac: jax.Array,
    improvement: jax.Array,
    kl: jax.Array,
    looked_at: jax.Array,
) -> LineSearchResult:
    """The candidate's numbers if it is accepted, else the old parameters."""
    zero = jnp.zeros((), theta.dtype)
    return LineSearchResult(
        theta=jnp.where(accepted, candidate, theta),
        frac=jnp.where(accepted, frac, zero),
        improvement=jnp.where(accepted, improvement, zero),
        kl=jnp.where(accepted, kl, zero),
        accepted=accepted,
        num_candidates=looked_at.astype(jnp.int32),
    )
