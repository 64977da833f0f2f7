"""A batch in chunks of rows, so that memory does not grow with it.

A network's activations are what a large batch takes memory for. In chunks, those of one
chunk at a time exist: what a derivative needs of them is computed again. Sums over the
samples are sums of the chunks' sums, with weights as in `reduction.py`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo_jax.devices import reduction
from trpo_jax.devices.reduction import Shard
from trpo_jax.distributions import Distribution


PolicyFunction = Callable[[jax.Array], Distribution]


class ChunkedPolicy:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Args:
        policy_at: (observations, mask) of some rows -> the policy at these.
        obs: [n, obs_dim] observations.
        mask: [n, options] of actions, or None.
        rows: Of a chunk, at least 2 and fewer than n.
    """

    def __init__(
        self,
        policy_at: Callable[..., PolicyFunction],
        obs: Float[jax.Array, "n obs_dim"],
        mask: jax.Array | None,
        rows: int,
    ) -> None:
        self._policy_at, self._rows = policy_at, rows
        self._given = (obs,) if mask is None else (obs, mask)

    def __call__(self, theta: Float[jax.Array, " p"]) -> Distribution:
        """The distribution at each observation."""
        # Its derivative computes the chunk again instead of keeping activations.
        at = jax.checkpoint(lambda theta, *part: self._at(part)(theta))
        return in_chunks(lambda *part: at(theta, *part), self._rows, *self._given)

    def total(self, of_chunk: Callable[[PolicyFunction], jax.Array]) -> jax.Array:
        """Sum over chunks of what is this chunk's part of a mean over all samples.

        Args:
            of_chunk: The policy at a chunk's observations -> its part; called where
                the samples at hand are those of the chunk.
        """
        shard, size = reduction.current(), len(self._given[0])
        weights = jnp.full((size, 1), 1.0 / size, self._given[0].dtype)
        weights = weights if shard is None else shard.weights

        def part(weights: jax.Array, *given: jax.Array) -> jax.Array:
            with reduction.sharded(Shard(weights, across=False)):
                return of_chunk(self._at(given))

        whole, rest = _split((weights, *self._given), self._rows)

        def add(sum_: jax.Array, chunk: list) -> tuple[jax.Array, None]:
            return sum_ + part(*chunk), None

        first = part(*(array[0] for array in whole))
        summed, _ = jax.lax.scan(add, first, [array[1:] for array in whole])
        return summed + part(*rest) if len(rest[0]) else summed

    def _at(self, part: tuple) -> PolicyFunction:
        return self._policy_at(part[0], part[1] if len(part) > 1 else None)


def in_chunks(
    function: Callable[..., Any], rows: int | None, *arrays: jax.Array
) -> Any:
    """`function` of arrays [n, …], of as many rows at a time.

    Args:
        function: Returns a tree of arrays with a row for each of the arguments', or
            with one that is the same for all.
        rows: Of a chunk, at least 2; None for all.
        arrays: Of n rows each.
    """
    if rows is None or len(arrays[0]) <= rows:
        return function(*arrays)
    whole, rest = _split(arrays, rows)
    chunks = jax.lax.map(lambda chunk: function(*chunk), whole)
    last = function(*rest) if len(rest[0]) else None

    def joined(chunk: jax.Array, last: jax.Array | None = None) -> jax.Array:
        if chunk.shape[1] == 1:  # The same for all rows.
            return chunk[0]
        merged = chunk.reshape(-1, *chunk.shape[2:])
        return merged if last is None else jnp.concatenate([merged, last])

    if last is None:
        return jax.tree.map(joined, chunks)
    return jax.tree.map(joined, chunks, last)


def _split(arrays: tuple, rows: int) -> tuple[list[jax.Array], list[jax.Array]]:
    """Arrays [chunks, rows, …] of whole chunks, and the rest."""
    whole = len(arrays[0]) // rows * rows
    return (
        [array[:whole].reshape(-1, rows, *array.shape[1:]) for array in arrays],
        [array[whole:] for array in arrays],
    )
