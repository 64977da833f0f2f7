"""What one side's process finds out about its own numbers: spreads and conditions."""

from collections.abc import Mapping, Sequence

import numpy as np

from parity_kit.tolerances import ULP_64, finite, scales


Arrays = Mapping[str, np.ndarray]


def changed_by(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Floats moved by one ulp up or down; whole ones, often flags or counts, are kept.

    Zeros stay zeros: what a step away from zero shows isn't rounding.
    """
    if array.dtype.kind not in "fc":
        return array
    sign = np.where(rng.random(array.shape) < 0.5, -1.0, 1.0)
    with np.errstate(invalid="ignore"):
        whole = (array == np.round(array)) | ~np.isfinite(array)
    return np.where(whole, array, array * (1.0 + sign * ULP_64))


def differences(exact: Arrays, nearby: Sequence[Arrays]) -> dict[str, float]:
    """Quantity -> how much an input's relative change is amplified, the worst of many.

    A whole number that an ulp changes has an infinite one.
    """
    least = scales(exact)
    found = {}
    for name, want in exact.items():
        worst = 0.0
        for other in nearby:
            got = other.get(name)
            if got is None or got.shape != want.shape:
                worst = np.inf
            elif want.dtype.kind in "biu":
                worst = max(worst, 0.0 if np.array_equal(got, want) else np.inf)
            else:
                change = float(np.linalg.norm((finite(got) - finite(want)).reshape(-1)))
                size = max(float(np.linalg.norm(finite(want).reshape(-1))), least[name])
                worst = max(worst, change / size / ULP_64 if change else 0.0)
        found[name] = float(worst)
    return found


def spreads(exact: Arrays, noisy: Sequence[Arrays]) -> dict[str, float]:
    """Quantity -> root mean square norm of what noise changes."""
    found = {}
    for name, want in exact.items():
        if want.dtype.kind in "biu":
            continue
        squares = [
            float(np.sum((finite(got) - finite(want)) ** 2))
            for other in noisy
            if (got := other.get(name)) is not None and got.shape == want.shape
        ]
        found[name] = float(np.sqrt(np.mean(squares))) if squares else np.inf
    return found


def moved(exact: np.ndarray, noisy: Sequence[np.ndarray]) -> np.ndarray:
    """Where any of several runs gives another whole number."""
    found = np.zeros(exact.shape, bool)
    for other in noisy:
        found |= other != exact if other.shape == exact.shape else True
    return found
