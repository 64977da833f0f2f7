"""Arrays on their way between processes, and what a function returns as named arrays.

Files are safetensors: no pickle, so that a stored result runs no code when it's read.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file


COMPLEX = " (complex)"


def save(arrays: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write named arrays; complex ones as pairs of numbers."""
    plain = {}
    for name, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.kind == "c":
            name, array = name + COMPLEX, real_pairs(array)
        plain[name] = np.ascontiguousarray(array).reshape(array.shape)
    save_file(plain, path)


def load(path: str | Path) -> dict[str, np.ndarray]:
    """Named arrays as `save` had them."""
    arrays = {}
    for name, array in load_file(path).items():
        if name.endswith(COMPLEX):
            name, array = name.removesuffix(COMPLEX), array[..., 0] + 1j * array[..., 1]
        arrays[name] = array
    return arrays


def real_pairs(array: np.ndarray) -> np.ndarray:
    """A complex array as a real one with a last axis of two."""
    return np.stack([np.real(array), np.imag(array)], axis=-1)


class Leaves:
    """The arrays of a function's result, and what is around them.

    Args:
        result: Arrays, numbers, None, or sequences, mappings and dataclasses of them.
        prefix: Name of the result; those of its parts are `prefix/0`, `prefix/key`.
        to_numpy: One framework's array as NumPy's, or None if it is none.

    Attributes:
        arrays: name -> array; complex ones as pairs of numbers.
        structure: the result as text with a star for each array; a list is like a
            tuple, a mapping's order is that of its keys.

    Raises:
        ValueError: something in the result is none of these.
    """

    def __init__(
        self, result: Any, prefix: str, to_numpy: Callable[[Any], np.ndarray | None]
    ) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._to_numpy = to_numpy
        self.structure = self._visit(result, prefix)

    def _visit(self, item: Any, name: str) -> str:
        if item is None or isinstance(item, str):
            return repr(item)
        array = self._to_numpy(item)
        if array is not None:
            array = real_pairs(array) if array.dtype.kind == "c" else array
            self.arrays[name] = array
            return "*"
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            item = {
                field.name: getattr(item, field.name)
                for field in dataclasses.fields(item)
            }
        if isinstance(item, Mapping):
            named = sorted((str(key), value) for key, value in item.items())
            inner = [f"{key}: {self._visit(v, f'{name}/{key}')}" for key, v in named]
            return "{" + ", ".join(inner) + "}"
        if isinstance(item, tuple | list):
            inner = [self._visit(v, f"{name}/{i}") for i, v in enumerate(item)]
            return "(" + ", ".join(inner) + ")"
        raise ValueError(
            f"{name}: expected arrays, numbers, None, and tuples, lists or dicts of "
            f"them, got {type(item).__module__}.{type(item).__qualname__}; return the "
            "arrays in it."
        )


def plain_number(item: Any) -> np.ndarray | None:
    """Python's and NumPy's numbers and NumPy's arrays as arrays; None for the rest."""
    if isinstance(item, bool | int | float | complex | np.ndarray | np.generic):
        array = np.asarray(item)
        return array if array.dtype.kind in "biufc" else None
    return None
