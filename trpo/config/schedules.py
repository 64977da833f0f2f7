"""Numbers of an update that change as the run goes on, by functions of the user's."""

import math
from collections.abc import Callable
from typing import TypeAlias

from trpo.common.validation import shown


Schedule: TypeAlias = Callable[[float], float]
"""The remaining fraction of a run, from 1 down, -> a number of the next update."""
SCHEDULED = ("target_kl", "value_lr", "entropy_coefficient")
"""Numbers that may have a schedule."""


def scheduled(name: str, schedule: Schedule, remaining: float) -> float:
    """What a schedule says.

    Args:
        name: Of `SCHEDULED`.
        schedule: The user's function.
        remaining: Fraction of the run, in (0, 1].

    Raises:
        ValueError: it is no number that `name` may be.
    """
    value = schedule(remaining)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    least = 0.0 if name == "entropy_coefficient" else math.ulp(0.0)
    if not (math.isfinite(number) and number >= least):
        low = "above" if least else "of at least"
        raise ValueError(
            f"`schedules`: expected a finite number {low} 0 for {name!r} with "
            f"{remaining:.3g} of the run remaining, got {shown(value)}."
        )
    return number
