"""Backtracking line search on surrogate and KL (Schulman et al. 2015, appendix C)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo_torch.devices.device import to_floats


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

    theta: Float[Tensor, " p"]
    frac: float
    improvement: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    accepted: bool
    num_candidates: int


def line_search(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    theta: Float[Tensor, " p"],
    full_step: Float[Tensor, " p"],
    *,
    target_kl: float,
    backtrack_coeff: float,
    backtrack_iters: int,
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
    """
    frac = 1.0
    for j in range(backtrack_iters):
        candidate = theta + frac * full_step
        improvement, kl = evaluate(candidate)
        gain, distance = to_floats(improvement, kl)
        if gain > 0.0 and distance <= target_kl and math.isfinite(gain):
            return LineSearchResult(candidate, frac, improvement, kl, True, j + 1)
        frac *= backtrack_coeff
    zero = full_step.new_zeros(())
    return LineSearchResult(theta, 0.0, zero, zero, False, backtrack_iters)


def take_full_step(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    theta: Float[Tensor, " p"],
    full_step: Float[Tensor, " p"],
    *,
    target_kl: float,
    backtrack_coeff: float,
    backtrack_iters: int,
) -> LineSearchResult:
    """No search: the full step if its improvement and KL are finite.

    The step of the natural policy gradient, as in OmniSafe. Its KL may exceed the
    radius, and its improvement be negative: nothing but the local models speaks for it.
    """
    if backtrack_iters:
        candidate = theta + full_step
        improvement, kl = evaluate(candidate)
        if torch.isfinite(improvement) and torch.isfinite(kl):
            return LineSearchResult(candidate, 1.0, improvement, kl, True, 1)
    zero = full_step.new_zeros(())
    return LineSearchResult(theta, 0.0, zero, zero, False, min(backtrack_iters, 1))


LINE_SEARCHES = {"sequential": line_search, "none": take_full_step}
