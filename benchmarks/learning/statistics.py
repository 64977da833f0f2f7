"""Statistics over seeds that the product has none of: differences, and their text."""

from typing import NamedTuple

import numpy as np

from trpo.sweeps.statistics import ENDS, resampled_means


class Interval(NamedTuple):
    """A 95 % interval, in the unit of what it is of."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:,.1f}, {self.high:,.1f}]"


def difference_interval(left: np.ndarray, right: np.ndarray, seed: int = 0) -> Interval:
    """Interval of the difference between two interquartile means, left minus right.

    The two are resampled independently: runs of one seed start alike in both backends,
    but rounding errors grow in chaotic dynamics, so their final returns are no pairs.

    Args:
        left: [seeds] scores.
        right: [seeds] scores; the number of seeds may differ.
        seed: Seed of the resampling.
    """
    first, second = resampled_means(left, seed), resampled_means(right, seed + 1)
    low, high = np.percentile(first - second, ENDS)
    return Interval(float(low), float(high))
