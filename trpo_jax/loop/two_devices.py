"""Two computations that do not need each other, each on a device of its own.

XLA runs the loops of a program one after the other, and does not divide products as
small as those of 64 units over a CPU's cores. The policy's step and the critic's fit
need nothing of each other: where all else is the same on two devices, one makes the
first, the other the second, and both are told what came of them. PyTorch divides no run
so, and that backend has no such file.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp


First = TypeVar("First")
Second = TypeVar("Second")


def on_two_devices(
    axis: str, first: Callable[[], First], second: Callable[[], Second]
) -> tuple[First, Second]:
    """Run `first` and `second` on two devices and gather both results, bit for bit.

    Args:
        axis: Of a `shard_map`'s mesh, of two devices on which all arrays are the same.
        first: What the first device computes.
        second: What the other does meanwhile.
    """
    nothing = [zeros_of(jax.eval_shape(one)) for one in (first, second)]
    here = jax.lax.cond(
        jax.lax.axis_index(axis) == 0,
        lambda: (first(), nothing[1]),
        lambda: (nothing[0], second()),
    )
    leaves, structure = jax.tree.flatten(here)
    count = len(jax.tree.leaves(here[0]))
    makers = [0] * count + [1] * (len(leaves) - count)
    return structure.unflatten(_exchanged(leaves, makers, axis))


def _exchanged(
    leaves: list[jax.Array], makers: list[int], axis: str
) -> list[jax.Array]:
    """Each leaf as the device has it that made it; one exchange for each dtype.

    Not the sum of both, which would turn -0 into 0.
    """
    gathered = list(leaves)
    for dtype in {leaf.dtype for leaf in leaves}:
        of_dtype = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
        flat = jnp.concatenate([leaves[i].reshape(-1) for i in of_dtype])
        all_ = jax.lax.all_gather(flat, axis)
        start = 0
        for i in of_dtype:
            end = start + leaves[i].size
            gathered[i] = all_[makers[i], start:end].reshape(leaves[i].shape)
            start = end
    return gathered


def zeros_of(shapes: Any) -> Any:
    """Zeros in the shapes and dtypes of a tree, as `jax.eval_shape` returns it."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
