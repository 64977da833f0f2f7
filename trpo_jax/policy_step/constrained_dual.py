"""The step that two multipliers make of gradient and cost gradient, in closed form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from trpo.data.report import StepKind


class DualSolution(NamedTuple):
    """Solution of the two-multiplier problem; the step is a combination of two.

    x = of_gradient H^-1 g + of_cost H^-1 b.

    Attributes:
        of_gradient: [] coefficient of H^-1 g.
        of_cost: [] coefficient of H^-1 b.
        kl_multiplier: [] lambda, of the trust region; 0 in recovery.
        cost_multiplier: [] nu, of the limit; 0 unless the step is BOUND.
        kind: [] `trpo.data.report.StepKind`.
    """

    of_gradient: Float[jax.Array, ""]
    of_cost: Float[jax.Array, ""]
    kl_multiplier: Float[jax.Array, ""]
    cost_multiplier: Float[jax.Array, ""]
    kind: Int[jax.Array, ""]


def solve_dual(
    q: Float[jax.Array, ""],
    r: Float[jax.Array, ""],
    s: Float[jax.Array, ""],
    c: Float[jax.Array, ""],
    target_kl: float | jax.Array,
) -> DualSolution:
    """The x that maximises g'x where c + b'x <= 0 and x'Hx / 2 <= target_kl.

    Achiam et al. 2017, "Constrained Policy Optimization", eqs. 11 to 14. Their dual has
    a border inside, at which its minimum is looked for on either side (appendix 10.2).
    The problem is convex, so one question decides: does the best step of the trust
    region alone, sqrt(2 target_kl / q) H^-1 g, keep the limit? If not, the best step
    lies on the limit's plane: its point nearest to 0, -c / s H^-1 b, and from there as
    far along H^-1 (g - r / s b) as the region reaches. Where that plane misses the
    region there is no such step, and -sqrt(2 target_kl / s) H^-1 b recovers.

    Args:
        q: g'H^-1 g, at least 0; 0 for no gradient.
        r: g'H^-1 b.
        s: b'H^-1 b; 0 for no cost gradient, about which no step can do anything.
        c: Cost's excess over its limit, in units of b'x; -inf for no limit.
        target_kl: Trust-region radius.
    """
    zero = jnp.zeros_like(q)
    free = jnp.sqrt(2.0 * target_kl / jnp.where(q > 0, q, 1.0))
    safe_s = jnp.where(s > 0, s, 1.0)
    room = 2.0 * target_kl - c * c / safe_s
    recovers = room <= 0
    # The third, that no step breaks the limit, is in the second but for rounding.
    is_free = ~(s > 0) | (c + free * r <= 0) | (recovers & (c < 0))
    down = -jnp.sqrt(2.0 * target_kl / safe_s)
    # Of g, what is orthogonal to b; less than its rounding error if they are parallel.
    rest = q - r * r / safe_s
    apart = (rest > 10.0 * jnp.finfo(q.dtype).eps * q) & ~recovers
    share = jnp.where(apart, room, 1.0) / jnp.where(apart, rest, 1.0)
    along = jnp.where(apart, jnp.sqrt(share), zero)
    kl_multiplier = jnp.where(apart, jnp.sqrt(1.0 / share), zero)
    bound = DualSolution(
        along,
        -(c + along * r) / safe_s,
        kl_multiplier,
        jnp.maximum((kl_multiplier * c + r) / safe_s, 0.0),
        jnp.int32(StepKind.BOUND),
    )
    others = (
        DualSolution(free, zero, 1.0 / free, zero, jnp.int32(StepKind.FREE)),
        DualSolution(zero, down, zero, zero, jnp.int32(StepKind.RECOVERY)),
    )
    return DualSolution(
        *(
            jnp.select([is_free, recovers], [of_free, of_recovery], of_bound)
            for of_free, of_recovery, of_bound in zip(*others, bound, strict=True)
        )
    )
