"""Statistics of timings: medians over processes, bootstrap intervals, noise floor."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


RESAMPLES = 10_000
CONFIDENCE = 0.95
LEAST_ROUNDS = 4


class Summary(NamedTuple):
    """Distribution of one cell's samples, one from each process.

    Attributes:
        median: of the samples.
        spread: distance from the first to the third quartile.
        count: samples.
    """

    median: float
    spread: float
    count: int


class Ratio(NamedTuple):
    """How many times `slow` takes as long as `fast`.

    Attributes:
        value: median of `slow` over median of `fast`.
        low: lower end of the bootstrap interval.
        high: upper end.
        count: rounds that both were measured in.
    """

    value: float
    low: float
    high: float
    count: int

    def is_claimed(self, floor: float) -> bool:
        """Whether the whole interval lies beyond the noise floor on one side of 1.

        Never with fewer than `LEAST_ROUNDS`, whose interval means nothing.
        """
        beyond = self.low > floor or self.high < 1.0 / floor
        return beyond and self.count >= LEAST_ROUNDS


def summarize(values: Sequence[float]) -> Summary:
    """Median and interquartile range.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("`values`: expected at least one sample, got none.")
    low, middle, high = np.percentile(values, [25, 50, 75])
    return Summary(float(middle), float(high - low), len(values))


def ratio(slow: Sequence[float], fast: Sequence[float], seed: int = 0) -> Ratio:
    """Ratio of medians with a 95 % bootstrap interval.

    The two lists are paired by round: sample k of both was taken in round k, so a
    round's noise, which both met, is drawn or left out for both together.

    Raises:
        ValueError: the lists differ in length or are empty.
    """
    if len(slow) != len(fast) or not slow:
        raise ValueError(
            "`slow`, `fast`: expected as many samples of each, one from each round, "
            f"got {len(slow)} and {len(fast)}."
        )
    a, b = np.asarray(slow, float), np.asarray(fast, float)
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(a), size=(RESAMPLES, len(a)))
    ratios = np.median(a[chosen], axis=1) / np.median(b[chosen], axis=1)
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(ratios, [tail, 100.0 - tail])
    value = float(np.median(a) / np.median(b))
    return Ratio(value, float(low), float(high), len(a))


def noise_floor(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """Largest factor by which the same thing, run twice, may seem to differ; >= 1.

    Infinite if nothing was run twice: then nothing can be claimed.

    Args:
        pairs: Samples of labels A and B of each subject, paired by round.
    """
    if not pairs:
        return math.inf
    worst = 1.0
    for a, b in pairs:
        found = ratio(a, b)
        worst = max(worst, found.high, 1.0 / found.low)
    return worst


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean of positive numbers."""
    return float(np.exp(np.mean(np.log(values))))


def log_log_slope(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Slope of log(time) over log(size), by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
