"""Checks that a canonical state fits before any of it is used."""

from collections.abc import Mapping

import numpy as np


# What a state may hold: all numbers of Gymnasium's spaces that are the same on every
# machine, which a longdouble is not.
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip


def check_state(
    state: Mapping[str, np.ndarray], *, template: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Copies of `state`'s arrays, which have the template's names, shapes and dtypes.

    Raises:
        ValueError: a name is missing or unknown, a shape or dtype differs, a number is
            not finite, or a counter is negative; the message names it.
    """
    if missing := sorted(set(template) - set(state)):
        raise ValueError(f"`state`: expected {missing[0]!r}, got no such name.")
    if unknown := sorted(set(state) - set(template)):
        raise ValueError(
            f"`state`: got {unknown[0]!r}, which this agent does not have."
        )
    return {name: _check_array(name, state[name], template[name]) for name in template}


def _check_array(name: str, array: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    array = np.array(array)
    if array.shape != wanted.shape or array.dtype != wanted.dtype:
        raise ValueError(
            f"`state[{name!r}]`: expected {wanted.dtype} {list(wanted.shape)}, "
            f"got {array.dtype} {list(array.shape)}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"`state[{name!r}]`: expected finite numbers.")
    never_negative = array.dtype.kind == "i" or name.endswith(
        ("count", "squared_deviations", "second_moment", "damping")
    )
    if (never_negative or ".second_moment." in name) and (array < 0).any():
        raise ValueError(f"`state[{name!r}]`: expected nothing below 0.")
    return array
