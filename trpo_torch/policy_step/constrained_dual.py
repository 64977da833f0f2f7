"""The step that two multipliers make of gradient and cost gradient, in closed form."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo.data.report import StepKind


class DualSolution(NamedTuple):
    """Solution of the two-multiplier problem; the step is a combination of two.

    x = of_gradient H^-1 g + of_cost H^-1 b.

    Attributes:
        of_gradient: [] coefficient of H^-1 g.
        of_cost: [] coefficient of H^-1 b.
        kl_multiplier: [] lambda, of the trust region; 0 in recovery.
        cost_multiplier: [] nu, of the limit; 0 unless the step is BOUND.
        kind: `trpo.data.report.StepKind`.
    """

    of_gradient: Float[Tensor, ""]
    of_cost: Float[Tensor, ""]
    kl_multiplier: Float[Tensor, ""]
    cost_multiplier: Float[Tensor, ""]
    kind: StepKind


def solve_dual(
    q: Float[Tensor, ""],
    r: Float[Tensor, ""],
    s: Float[Tensor, ""],
    c: Float[Tensor, ""],
    target_kl: float,
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
    zero = torch.zeros_like(q)
    free = torch.sqrt(2.0 * target_kl / torch.where(q > 0, q, 1.0))
    room = 2.0 * target_kl - c * c / s
    # The third, that no step breaks the limit, is in the second but for rounding.
    if not s > 0 or c + free * r <= 0 or (room <= 0 and c < 0):
        return DualSolution(free, zero, 1.0 / free, zero, StepKind.FREE)
    if room <= 0:
        down = -torch.sqrt(2.0 * target_kl / s)
        return DualSolution(zero, down, zero, zero, StepKind.RECOVERY)
    # Of g, what is orthogonal to b; less than its rounding error if they are parallel.
    rest = q - r * r / s
    if rest > 10.0 * torch.finfo(q.dtype).eps * q:
        along, kl_multiplier = torch.sqrt(room / rest), torch.sqrt(rest / room)
    else:
        along, kl_multiplier = zero, zero
    return DualSolution(
        along,
        -(c + along * r) / s,
        kl_multiplier,
        torch.clamp((kl_multiplier * c + r) / s, min=0.0),
        StepKind.BOUND,
    )
