"""Statistics over seeds: the interquartile mean and its bootstrap interval.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice": with few seeds the mean follows its outliers and the median ignores most
runs; the interquartile mean is between, and its uncertainty is to be reported.
"""

from typing import Any

import numpy as np


RESAMPLES = 10_000
# In percent, of a 95 % interval.
ENDS = (2.5, 97.5)


def interquartile_mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean without the lowest and the highest quarter along `axis`.

    Of n scores, floor(n / 4) are left out at each end, as in the authors' package
    rliable: one of five, none of three.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=axis)
    size = ordered.shape[axis]
    cut = size // 4
    return np.take(ordered, range(cut, size - cut), axis=axis).mean(axis=axis)


def bootstrap_interval(scores: np.ndarray, seed: int = 0) -> tuple[Any, Any]:
    """Percentile interval of the interquartile mean over seeds.

    Args:
        scores: [seeds] or [seeds, points].
        seed: Seed of the resampling, so that a figure can be drawn again.

    Returns:
        Lower and upper end, each of the shape of `scores[0]`.
    """
    return tuple(np.percentile(resampled_means(scores, seed), ENDS, axis=0))


def resampled_means(scores: np.ndarray, seed: int) -> np.ndarray:
    """Interquartile means of resampled seeds, [RESAMPLES, ...]."""
    scores = np.asarray(scores, dtype=np.float64)
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(scores), size=(RESAMPLES, len(scores)))
    return interquartile_mean(scores[chosen], axis=1)
