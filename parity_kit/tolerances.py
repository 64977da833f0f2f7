"""Bounds, each with its reason, and the relative error that they bound."""

from collections.abc import Mapping

import numpy as np


# Float64 identity. 1e-10 is a million times float64's unit roundoff, a thousandth of
# float32's: no slip of dtype, epsilon or formula fits below it.
IDENTITY = 1e-10
# Above this condition number float64 itself leaves too few digits to decide on.
MAX_CONDITION = 1e4
# Float32 error over the predicted spread.
UNSTABLE = 8.0
VACUOUS = 1.0 / 20.0
# JAX's float32 error over torch's.
FAIRNESS = (0.25, 4.0)
# Share of decisions too close to call.
MAX_TIE_SHARE = 0.05
# An array far smaller than those beside it is measured by their size: the gradient of a
# bias in front of a normalisation is zero but for rounding.
SMALL_SHARE = 1e-3

UNIT_ROUNDOFF_32 = 2.0**-24
ULP_64 = 2.0**-52


def relative_error(got: np.ndarray, want: np.ndarray, scale: float = 0.0) -> float:
    """|got - want| / max(|want|, scale); 0 where equal, NaN where either is."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    difference = float(np.linalg.norm((got - want).reshape(-1)))
    if difference == 0.0:
        return 0.0
    size = max(float(np.linalg.norm(want.reshape(-1))), scale)
    return difference / size if size > 0 else float("inf")


def group_of(quantity: str) -> str:
    """The quantities that are measured by each other's size have one group.

    `gradient/layer.weight` and `gradient/layer.bias` have, `optimizer/1/...` and
    `optimizer/2/...` don't.
    """
    return quantity.rpartition("/")[0] or quantity


def scales(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """For each quantity the least size that its error is taken relative to."""
    squares: dict[str, float] = {}
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            size = float(np.linalg.norm(finite(array).reshape(-1)))
            squares[group_of(name)] = squares.get(group_of(name), 0.0) + size**2
    return {
        name: SMALL_SHARE * float(np.sqrt(squares.get(group_of(name), 0.0)))
        for name in arrays
    }


def finite(array: np.ndarray) -> np.ndarray:
    """The array in float64 with zeros where it isn't a finite number."""
    array = np.asarray(array, np.float64)
    return np.where(np.isfinite(array), array, 0.0)


def same_not_finite(got: np.ndarray, want: np.ndarray) -> bool:
    """Whether NaN, infinity and minus infinity are at the same places."""
    return np.array_equal(
        np.where(np.isfinite(got), 0.0, got),
        np.where(np.isfinite(want), 0.0, want),
        equal_nan=True,
    )
