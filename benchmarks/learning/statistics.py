"""Statistics over seeds: interquartile mean and bootstrap intervals.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice": with few seeds the mean follows its outliers and the median ignores most
runs; the interquartile mean is between, and its uncertainty is to be reported.
"""

from typing import NamedTuple

import numpy as np


RESAMPLES = 10_000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A 95 % interval, in the unit of what it is of."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:,.1f}, {self.high:,.1f}]"


def interquartile_mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean without the lowest and the highest quarter along `axis`.

    Of n scores, floor(n / 4) are left out at each end, as in the authors' package
    rliable: one of five, none of three.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=axis)
    size = ordered.shape[axis]
    cut = size // 4
    return np.take(ordered, range(cut, size - cut), axis=axis).mean(axis=axis)


def bootstrap_interval(scores: np.ndarray, seed: int = 0) -> tuple:
    """Percentile interval of the interquartile mean over seeds.

    Args:
        scores: [seeds] or [seeds, points].
        seed: Seed of the resampling, so that a figure can be drawn again.

    Returns:
        Lower and upper end, each of the shape of `scores[0]`.
    """
    means = _resampled_means(np.asarray(scores, dtype=np.float64), seed)
    tail = 100 * (1 - CONFIDENCE) / 2
    return tuple(np.percentile(means, (tail, 100 - tail), axis=0))


def difference_interval(left: np.ndarray, right: np.ndarray, seed: int = 0) -> Interval:
    """Interval of the difference between two interquartile means, left minus right.

    The two are resampled independently: runs of one seed start alike in both backends,
    but rounding errors grow in chaotic dynamics, so their final returns are no pairs.

    Args:
        left: [seeds] scores.
        right: [seeds] scores; the number of seeds may differ.
        seed: Seed of the resampling.
    """
    first = _resampled_means(np.asarray(left, dtype=np.float64), seed)
    second = _resampled_means(np.asarray(right, dtype=np.float64), seed + 1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(first - second, (tail, 100 - tail))
    return Interval(float(low), float(high))


def _resampled_means(scores: np.ndarray, seed: int) -> np.ndarray:
    """Interquartile means of resampled seeds, [RESAMPLES, ...]."""
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(scores), size=(RESAMPLES, len(scores)))
    return interquartile_mean(scores[chosen], axis=1)
