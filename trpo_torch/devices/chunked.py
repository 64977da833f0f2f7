"""A batch in chunks of rows, so that memory does not grow with it.

A network's activations are what a large batch takes memory for. In chunks, those of one
chunk at a time exist: what a derivative needs of them is computed again.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


def in_chunks(function: Callable[..., Any], rows: int | None, *arrays: Tensor) -> Any:
    """`function` of arrays [n, …], of as many rows at a time.

    Args:
        function: Returns a tensor, or a tuple of them, with a row for each of the
            arguments', or with one that is the same for all.
        rows: Of a chunk, at least 2; None for all.
        arrays: Of n rows each.
    """
    if rows is None or len(arrays[0]) <= rows:
        return function(*arrays)
    parts = [function(*chunk) for chunk in split(arrays, rows)]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    # Where a whole chunk has one row, it is the same for all.
    return tuple(
        field[0] if len(field[0]) == 1 else torch.cat(field)
        for field in zip(*parts, strict=True)
    )


def split(arrays: tuple[Tensor, ...], rows: int) -> Iterator[tuple[Tensor, ...]]:
    """The rows of all arrays in chunks; the last has the rest."""
    return zip(*(array.split(rows) for array in arrays), strict=True)
