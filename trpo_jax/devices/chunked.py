"""A batch in chunks of rows, so that memory does not grow with it.

A network's activations are what a large batch takes memory for. In chunks, those of one
chunk at a time exist: what a derivative needs of them is computed again.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def in_chunks(function: Callable[..., Any], rows: int, *arrays: jax.Array) -> Any:
    """`function` of arrays [n, …], of as many rows at a time.

    Args:
        function: Returns a tree of arrays with a row for each of the arguments', or
            with one that is the same for all.
        rows: Of a chunk, at least 2.
        arrays: Of n rows each.
    """
    if len(arrays[0]) <= rows:
        return function(*arrays)
    # Its derivative computes the chunk again instead of keeping activations.
    function = jax.checkpoint(function)
    whole = len(arrays[0]) // rows * rows
    chunks = [array[:whole].reshape(-1, rows, *array.shape[1:]) for array in arrays]
    mapped = jax.lax.map(lambda chunk: function(*chunk), chunks)
    rest = [array[whole:] for array in arrays]
    last = function(*rest) if len(rest[0]) else None

    def joined(chunk: jax.Array, last: jax.Array | None = None) -> jax.Array:
        if chunk.shape[1] == 1:  # The same for all rows.
            return chunk[0]
        merged = chunk.reshape(-1, *chunk.shape[2:])
        return merged if last is None else jnp.concatenate([merged, last])

    if last is None:
        return jax.tree.map(joined, mapped)
    return jax.tree.map(joined, mapped, last)
