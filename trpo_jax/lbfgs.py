"""Limited-memory BFGS (Nocedal and Wright 2006, algorithms 7.4 and 7.5).

The libraries' own have other line searches in each framework, so that their iterates
are not comparable.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from trpo_jax.solvers.conjugate_gradient import inner


# Pairs that the inverse Hessian is made of; scipy's and Liu and Nocedal's (1989).
MEMORY = 10
# The search ends where no entry of the gradient is larger: scipy's `gtol`.
GRADIENT_TOL = 1e-5
# Share of the predicted decrease, and of the slope, that a step has to reach, and
# points that are tried along a direction (Nocedal and Wright 2006, section 3.1).
DECREASE, SLOPE, TRIALS = 1e-4, 0.9, 20
# A pair is left out where s'y is no more than this times y'y: rounding error.
CURVATURE = 1e-12


class Point(NamedTuple):
    """A function's value and gradient at x [p]."""

    x: Float[jax.Array, " p"]
    loss: Float[jax.Array, ""]
    gradient: Float[jax.Array, " p"]


class LBFGSResult(NamedTuple):
    """Outcome of a minimisation.

    Attributes:
        point: the last.
        num_steps: steps taken.
        mean_loss: mean of the losses before each step; if there was none, the loss.
    """

    point: Point
    num_steps: Int[jax.Array, ""]
    mean_loss: Float[jax.Array, ""]


class Pairs(NamedTuple):
    """Changes of the parameters and of the gradient, the newest last.

    Attributes:
        s: of the parameters; zeros where there is none yet, as in the others.
        y: of the gradient.
        rho: 1 / s'y.
        scale: s'y / y'y of the newest; 0 before the first.
    """

    s: Float[jax.Array, "memory p"]
    y: Float[jax.Array, "memory p"]
    rho: Float[jax.Array, " memory"]
    scale: Float[jax.Array, ""]


class _State(NamedTuple):
    point: Point
    pairs: Pairs
    total: Float[jax.Array, ""]
    num_steps: Int[jax.Array, ""]
    stuck: Bool[jax.Array, ""]


class _Search(NamedTuple):
    low: Float[jax.Array, ""]
    high: Float[jax.Array, ""]
    t: Float[jax.Array, ""]
    point: Point
    trials: Int[jax.Array, ""]
    accepted: Bool[jax.Array, ""]


def minimize(
    function: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    x: Float[jax.Array, " p"],
    max_steps: int,
    gradient_tol: float = GRADIENT_TOL,
) -> LBFGSResult:
    """Follow quasi-Newton directions downhill.

    Ends after `max_steps`, or where no entry of the gradient exceeds `gradient_tol`, or
    where a direction has no point that the search accepts.

    Args:
        function: [p] -> its value [] and gradient [p].
        x: To begin with.
        max_steps: Most steps.
        gradient_tol: See above.
    """

    def keep_going(s: _State) -> jax.Array:
        steep = jnp.abs(s.point.gradient).max() > gradient_tol
        return (s.num_steps < max_steps) & steep & ~s.stuck

    def step(s: _State) -> _State:
        direction = -times_inverse_hessian(s.pairs, s.point.gradient)
        found, accepted = search(function, s.point, direction)
        return _State(
            jax.tree.map(lambda a, b: jnp.where(accepted, a, b), found, s.point),
            _remember(s.pairs, s.point, found),
            s.total + jnp.where(accepted, s.point.loss, 0.0),
            s.num_steps + accepted,
            ~accepted,
        )

    start = Point(x, *function(x))
    zeros = jnp.zeros((MEMORY, x.shape[0]), x.dtype)
    none = jnp.zeros((), x.dtype)
    pairs = Pairs(zeros, zeros, zeros[:, 0], none)
    begin = _State(start, pairs, none, jnp.int32(0), jnp.zeros((), bool))
    end = jax.lax.while_loop(keep_going, step, begin)
    mean_loss = end.total / jnp.maximum(end.num_steps, 1)
    mean_loss = jnp.where(end.num_steps > 0, mean_loss, end.point.loss)
    return LBFGSResult(end.point, end.num_steps, mean_loss)


def times_inverse_hessian(
    pairs: Pairs, gradient: Float[jax.Array, " p"]
) -> Float[jax.Array, " p"]:
    """H g by the two-loop recursion (algorithm 7.4, initial H of eq. 7.20).

    Without pairs, the gradient, cut to length 1 where it is longer.

    Args:
        pairs: Changes s of the parameters and y of the gradient.
        gradient: g.
    """
    columns = pairs[:3]

    def first(q: jax.Array, pair: tuple) -> tuple[jax.Array, jax.Array]:
        s, y, rho = pair
        share = inner(s, q) * rho
        return q - share * y, share

    def second(r: jax.Array, pair: tuple) -> tuple[jax.Array, None]:
        s, y, rho, share = pair
        return r + s * (share - inner(y, r) * rho), None

    # Rows not yet filled are zero and change nothing.
    q, shares = jax.lax.scan(first, gradient, columns, reverse=True)
    length = jnp.sqrt(inner(gradient, gradient))
    scale = jnp.where(pairs.scale > 0, pairs.scale, 1.0 / jnp.maximum(length, 1.0))
    return jax.lax.scan(second, scale * q, (*columns, shares))[0]


def search(
    function: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    point: Point,
    direction: Float[jax.Array, " p"],
) -> tuple[Point, Bool[jax.Array, ""]]:
    """A point along `direction` that meets the weak Wolfe conditions, if there is one.

    By bisection from step 1 on (Lewis and Overton 2013, "Nonsmooth Optimization via
    Quasi-Newton Methods", algorithm 2.6), which needs no smoothness. A comparison with
    NaN is false, so a step that overflows is halved.

    Args:
        function: [p] -> its value [] and gradient [p].
        point: To begin with.
        direction: [p]

    Returns:
        The last point that was tried, and whether it is one.
    """
    slope = inner(point.gradient, direction)

    def keep_going(s: _Search) -> jax.Array:
        return ~s.accepted & (s.trials < TRIALS)

    def try_next(s: _Search) -> _Search:
        x = point.x + s.t * direction
        found = Point(x, *function(x))
        lower = found.loss <= point.loss + DECREASE * s.t * slope
        flatter = inner(found.gradient, direction) >= SLOPE * slope
        low = jnp.where(lower & ~flatter, s.t, s.low)
        high = jnp.where(lower, s.high, s.t)
        t = jnp.where(high < jnp.inf, 0.5 * (low + high), 2.0 * s.t)
        return _Search(low, high, t, found, s.trials + 1, lower & flatter)

    one = jnp.ones((), direction.dtype)
    begin = _Search(
        0.0 * one, jnp.inf * one, one, point, jnp.int32(0), jnp.zeros((), bool)
    )
    end = jax.lax.while_loop(keep_going, try_next, begin)
    return end.point, end.accepted


def _remember(pairs: Pairs, before: Point, after: Point) -> Pairs:
    """The pairs with the newest step's, unless that is rounding error or NaN."""
    s, y = after.x - before.x, after.gradient - before.gradient
    s_y, y_y = inner(s, y), inner(y, y)
    sound = s_y > CURVATURE * y_y
    new = Pairs(
        jnp.roll(pairs.s, -1, 0).at[-1].set(s),
        jnp.roll(pairs.y, -1, 0).at[-1].set(y),
        jnp.roll(pairs.rho, -1).at[-1].set(1.0 / s_y),
        s_y / y_y,
    )
    return jax.tree.map(lambda a, b: jnp.where(sound, a, b), new, pairs)
