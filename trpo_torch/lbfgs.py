"""Limited-memory BFGS (Nocedal and Wright 2006, algorithms 7.4 and 7.5).

The libraries' own have other line searches in each framework, so that their iterates
are not comparable.
"""

import collections
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo_torch.devices.device import to_floats
from trpo_torch.solvers.conjugate_gradient import inner


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

    x: Float[Tensor, " p"]
    loss: Float[Tensor, ""]
    gradient: Float[Tensor, " p"]


class LBFGSResult(NamedTuple):
    """Outcome of a minimisation.

    Attributes:
        point: the last.
        num_steps: steps taken.
        mean_loss: mean of the losses before each step; if there was none, the loss.
    """

    point: Point
    num_steps: int
    mean_loss: Float[Tensor, ""]


def minimize(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Float[Tensor, " p"],
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
    point, total, num_steps = Point(x, *function(x)), 0.0, 0
    pairs: collections.deque[tuple[Tensor, Tensor]] = collections.deque(maxlen=MEMORY)
    while num_steps < max_steps and float(point.gradient.abs().max()) > gradient_tol:
        direction = -times_inverse_hessian(pairs, point.gradient)
        found = search(function, point, direction)
        if found is None:
            break
        total, num_steps = total + point.loss, num_steps + 1
        s, y = found.x - point.x, found.gradient - point.gradient
        s_y, y_y = to_floats(inner(s, y), inner(y, y))
        if s_y > CURVATURE * y_y:
            pairs.append((s, y))
        point = found
    mean_loss = total / num_steps if num_steps else point.loss
    return LBFGSResult(point, num_steps, torch.as_tensor(mean_loss))


def times_inverse_hessian(
    pairs: Sequence[tuple[Tensor, Tensor]], gradient: Float[Tensor, " p"]
) -> Float[Tensor, " p"]:
    """H g by the two-loop recursion (algorithm 7.4, initial H of eq. 7.20).

    Without pairs, the gradient, cut to length 1 where it is longer.

    Args:
        pairs: Changes s of the parameters and y of the gradient, the oldest first.
        gradient: g.
    """
    if not pairs:
        return gradient / torch.sqrt(inner(gradient, gradient)).clamp(min=1.0)
    q, shares = gradient, []
    for s, y in reversed(pairs):
        shares.append(inner(s, q) / inner(s, y))
        q = q - shares[-1] * y
    s, y = pairs[-1]
    r = inner(s, y) / inner(y, y) * q
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        r = r + s * (share - inner(y, r) / inner(s, y))
    return r


def search(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    point: Point,
    direction: Float[Tensor, " p"],
) -> Point | None:
    """A point along `direction` that meets the weak Wolfe conditions; None for none.

    By bisection from step 1 on (Lewis and Overton 2013, "Nonsmooth Optimization via
    Quasi-Newton Methods", algorithm 2.6), which needs no smoothness. A comparison with
    NaN is false, so a step that overflows is halved.

    Args:
        function: [p] -> its value [] and gradient [p].
        point: To begin with.
        direction: [p]
    """
    slope = inner(point.gradient, direction)
    low, high, t = 0.0, math.inf, 1.0
    for _ in range(TRIALS):
        x = point.x + t * direction
        found = Point(x, *function(x))
        if not bool(found.loss <= point.loss + DECREASE * t * slope):
            high = t
        elif not bool(inner(found.gradient, direction) >= SLOPE * slope):
            low = t
        else:
            return found
        t = 0.5 * (low + high) if high < math.inf else 2.0 * t
    return None
