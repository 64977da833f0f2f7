"""The third implementation's hidden layers: activations and layer normalisation."""

import math
from typing import NamedTuple

import numpy as np

from parity_kit.rounding import Noise, sum_rows


EPSILON = 1e-5
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def activate(name: str, z: np.ndarray) -> np.ndarray:
    """The activation of a sum `z`."""
    with np.errstate(over="ignore"):
        return {
            "tanh": lambda: np.tanh(z),
            "relu": lambda: np.maximum(z, 0.0),
            "elu": lambda: np.where(z > 0, z, np.expm1(z)),
            "gelu": lambda: z * _normal_cdf(z),
            "silu": lambda: z / (1.0 + np.exp(-z)),
        }[name]()


def slope(name: str, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Derivative of the activation at the sum `z`, where its value is `y`."""
    with np.errstate(over="ignore"):
        share = 1.0 / (1.0 + np.exp(-z))
    return {
        "tanh": lambda: 1.0 - y**2,
        "relu": lambda: (z > 0).astype(np.float64),
        "elu": lambda: np.where(z > 0, 1.0, y + 1.0),
        "gelu": lambda: (
            _normal_cdf(z) + z * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
        ),
        "silu": lambda: share * (1.0 + z * (1.0 - share)),
    }[name]()


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    return 0.5 * _erfc(-z / math.sqrt(2.0))


class Normalized(NamedTuple):
    """Sums [N, units] brought to mean 0 and variance 1, and their deviation [N, 1]."""

    value: np.ndarray
    deviation: np.ndarray


def normalize(z: np.ndarray, noise: Noise) -> Normalized:
    """Normalise each row z: (z - mean) / sqrt(variance + 1e-5)."""
    centered = noise(z - z.mean(1, keepdims=True))
    deviation = np.sqrt((centered**2).mean(1, keepdims=True) + EPSILON)
    return Normalized(noise(centered / deviation), deviation)


def normalize_backward(
    at: Normalized, scale: np.ndarray, delta: np.ndarray, noise: Noise
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cotangents of scale, shift and sums, given that of scale * value + shift."""
    d_scale = noise(sum_rows(delta * at.value, noise))
    d_shift = noise(sum_rows(delta, noise))
    return d_scale, d_shift, _project(at, noise(delta * scale), noise)


def normalize_tangent(at: Normalized, d_z: np.ndarray, noise: Noise) -> np.ndarray:
    """How the normalised sums change with the sums."""
    return _project(at, d_z, noise)


def _project(at: Normalized, d: np.ndarray, noise: Noise) -> np.ndarray:
    """The Jacobian of `normalize`, which is symmetric, times `d`."""
    along = (d * at.value).mean(1, keepdims=True)
    rest = noise(d - d.mean(1, keepdims=True) - at.value * along)
    return noise(rest / at.deviation)
