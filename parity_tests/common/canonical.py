"""Canonical names and the canonical flat order of parameters.

Flat vectors are in the order of the canonical state: `log_std` first (policy only),
then the encoders', then each layer's weight [out, in] and bias, then each
normalisation's. JAX's own flat order is another one, so vectors are carried across by
name.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from trpo.spaces.architecture import PLAIN, Architecture


Arrays = dict[str, np.ndarray]


def parameter_shapes(
    sizes: Sequence[int], log_std: int, architecture: Architecture = PLAIN
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a network's parameters in canonical order.

    Args:
        sizes: Entries of an observation, units of the layers, outputs.
        log_std: Entries of the free log standard deviation that comes first; 0 where
            there is none.
        architecture: Of the network.
    """
    if log_std:
        yield "log_std", (log_std,)
    for k, image in enumerate(architecture.images):
        channels = image.channels
        for j, (filters, kernel, _) in enumerate(image.convolutions):
            yield f"encoders.{k}.convs.{j}.weight", (filters, channels, *kernel)
            yield f"encoders.{k}.convs.{j}.bias", (filters,)
            channels = filters
        yield f"encoders.{k}.output.weight", (image.features, image.encoded)
        yield f"encoders.{k}.output.bias", (image.features,)
    sizes = (architecture.input_dim(sizes[0]), *sizes[1:])
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        yield f"layers.{i}.weight", (fan_out, fan_in)
        yield f"layers.{i}.bias", (fan_out,)
    for i, size in enumerate(sizes[1:-1] if architecture.layer_norm else ()):
        yield f"norms.{i}.weight", (size,)
        yield f"norms.{i}.bias", (size,)


def in_order(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    """A network's arrays under `prefix`, by their names after it, in canonical order.

    A module's own arrays come before its parts', parts by name or number, weight
    before bias.
    """

    def rank(name: str) -> list:
        *path, last = name.split(".")
        parts = [(1, int(p), "") if p.isdigit() else (1, 0, p) for p in path]
        return [*parts, (0, int(last == "bias"), "")]

    names = (n.removeprefix(prefix) for n in arrays if n.startswith(prefix))
    return {name: arrays[prefix + name] for name in sorted(names, key=rank)}


def flatten(arrays: Mapping[str, np.ndarray], prefix: str) -> np.ndarray:
    """A network's canonical arrays under `prefix` as one vector."""
    return np.concatenate([a.reshape(-1) for a in in_order(arrays, prefix).values()])


def unflatten(
    vector: np.ndarray,
    sizes: Sequence[int],
    prefix: str,
    log_std: int,
    architecture: Architecture = PLAIN,
) -> Arrays:
    """The arrays that `flatten` joined."""
    arrays, offset = {}, 0
    for name, shape in parameter_shapes(sizes, log_std, architecture):
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
