"""Canonical names and the canonical flat order of parameters.

Flat vectors are in the order of the canonical state: `log_std` first (policy only),
then each layer's weight [out, in] and bias. JAX's own flat order is another one, so
vectors are carried across by name.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np


Arrays = dict[str, np.ndarray]


def parameter_shapes(
    sizes: Sequence[int], log_std: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a network's parameters in canonical order.

    Args:
        sizes: Widths from input to output.
        log_std: Entries of the free log standard deviation that comes first; 0 where
            there is none.
    """
    if log_std:
        yield "log_std", (log_std,)
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        yield f"layers.{i}.weight", (fan_out, fan_in)
        yield f"layers.{i}.bias", (fan_out,)


def flatten(arrays: Mapping[str, np.ndarray], prefix: str) -> np.ndarray:
    """A network's canonical arrays under `prefix` as one vector."""
    network = {name: array for name, array in arrays.items() if name.startswith(prefix)}
    layers = {n for n in network if n.startswith(f"{prefix}layers.")}
    count = len(layers) // 2
    names = [f"{prefix}log_std"] if f"{prefix}log_std" in network else []
    for i in range(count):
        names += [f"{prefix}layers.{i}.weight", f"{prefix}layers.{i}.bias"]
    return np.concatenate([network[name].reshape(-1) for name in names])


def unflatten(
    vector: np.ndarray, sizes: Sequence[int], prefix: str, log_std: int
) -> Arrays:
    """The arrays that `flatten` joined."""
    arrays, offset = {}, 0
    for name, shape in parameter_shapes(sizes, log_std):
        size = int(np.prod(shape))
        arrays[prefix + name] = vector[offset : offset + size].reshape(shape)
        offset += size
    assert offset == vector.size, "a vector of another network"
    return arrays


def flat_logits(logits: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Logits [N, out] of all choices in turn, from a backend's [N, k, widest]."""
    if logits.ndim == 2:
        return logits
    parts = [logits[:, j, :size] for j, size in enumerate(sizes)]
    return np.concatenate(parts, axis=1)


def round32(array: np.ndarray) -> np.ndarray:
    """The nearest float32 numbers, as float64: exact inputs for either precision."""
    return np.asarray(array, dtype=np.float32).astype(np.float64)
