"""Simulated rounding, and sums that are rounded as they grow (Parker 1997)."""

from collections.abc import Callable, Iterable

import numpy as np

from parity_kit.tolerances import UNIT_ROUNDOFF_32


Noise = Callable[[np.ndarray], np.ndarray]


def exact(array: np.ndarray) -> np.ndarray:
    """No noise."""
    return array


def rounding_noise(seed: int, unit: float = UNIT_ROUNDOFF_32) -> Noise:
    """Noise of relative size `unit`: one simulated run in a shorter precision."""
    rng = np.random.default_rng([seed, 24])

    def noise(array: np.ndarray) -> np.ndarray:
        # Seven digits of randomness are plenty, at half the time.
        xi = rng.standard_normal(np.shape(array), dtype=np.float32)
        return array * (1.0 + unit * xi.astype(np.float64))

    return noise


# Rows that a product or sum adds up before its simulated running total is rounded.
BLOCK = 64


def sum_rows(terms: np.ndarray, noise: Noise = exact) -> np.ndarray:
    """Sum over the first axis; the running total is rounded after each block.

    What a long sum loses is mostly this: its total grows as its terms are added, and
    each addition rounds the total, not the term (Higham 2002, section 4.2).
    """
    return _accumulate((part.sum(0) for part in _blocks(terms)), noise)


def mean_rows(terms: np.ndarray, noise: Noise = exact) -> np.ndarray:
    """Mean over all entries of [N, 1] or [1, 1], accumulated as `sum_rows` does."""
    return sum_rows(terms, noise).sum() / terms.size


def product_over_rows(left: np.ndarray, right: np.ndarray, noise: Noise) -> np.ndarray:
    """left' right, accumulated as `sum_rows` does."""
    pairs = zip(_blocks(left), _blocks(right), strict=True)
    return _accumulate((a.T @ b for a, b in pairs), noise)


def _blocks(array: np.ndarray) -> list[np.ndarray]:
    return [array[i : i + BLOCK] for i in range(0, len(array), BLOCK)]


def _accumulate(parts: Iterable[np.ndarray], noise: Noise) -> np.ndarray:
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        total = noise(total + part)
    return total
