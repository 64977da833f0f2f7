"""Weights carried between PyTorch's names and layouts and JAX's: maps of names.

A map has one entry for each array of PyTorch, `torch name: entry`. An entry is

- `"jax name"`: the same array under another name;
- `("jax name", "transform")`: the array in another layout, see `TRANSFORMS`;
- a list of these: PyTorch's array holds several of JAX's, as equal parts of its first
  axis (the gates of a recurrent cell; query, key and value of an attention);
- `(None, "zero:4x3")`: JAX has no such array; of shape [4, 3] and zero in PyTorch, and
  compared with nothing (one of the two biases of a recurrent cell).

A JAX name that ends in `[i]` is row i of an array that stacks a model's layers. What
only counts in PyTorch (`num_batches_tracked`) needs no entry.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np


Part = tuple[str | None, str]
Entry = str | Part | list[str | Part]
Map = Mapping[str, Entry]
Shapes = Mapping[str, tuple[int, ...]]
Change = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


class Transform(NamedTuple):
    """A layout and its inverse: (array, numbers behind the name's colon) -> array."""

    to_jax: Change
    to_torch: Change
    meaning: str


def _windows_first(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(a, (0, 1), (-1, -2))


def _windows_last(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(a, (-1, -2), (0, 1))


def _flip(a: np.ndarray) -> np.ndarray:
    return np.flip(a, axis=tuple(range(a.ndim - 2)))


def _flattened_to_jax(a: np.ndarray, numbers: tuple[int, ...]) -> np.ndarray:
    channels_first = a.T.reshape(*numbers, -1)
    return np.moveaxis(channels_first, 0, -2).reshape(-1, a.shape[0])


def _flattened_to_torch(a: np.ndarray, numbers: tuple[int, ...]) -> np.ndarray:
    channels, *window = numbers
    channels_first = np.moveaxis(a.reshape(*window, channels, -1), -2, 0)
    return channels_first.reshape(-1, a.shape[-1]).T


TRANSFORMS: dict[str, Transform] = {
    "same": Transform(lambda a, _: a, lambda a, _: a, "the array as it is"),
    "transposed": Transform(
        lambda a, _: a.T, lambda a, _: a.T, "a linear layer's [out, in] -> [in, out]"
    ),
    "convolution": Transform(
        lambda a, _: _windows_first(a),
        lambda a, _: _windows_last(a),
        "[out, in, *window] -> [*window, in, out]; also flax's ConvTranspose with "
        "`transpose_kernel=True`",
    ),
    "transposed convolution": Transform(
        lambda a, _: _flip(_windows_first(a).swapaxes(-1, -2)),
        lambda a, _: _windows_last(_flip(a).swapaxes(-1, -2)),
        "[in, out, *window] -> [*window, in, out] with the window reversed, for flax's "
        "ConvTranspose",
    ),
    "flattened": Transform(
        _flattened_to_jax,
        _flattened_to_torch,
        "`flattened:CxHxW`: a linear layer behind a flattened image, channels first "
        "in PyTorch and last in JAX",
    ),
    "heads": Transform(
        lambda a, n: a.T.reshape(*a.T.shape[:-1], *n, -1),
        lambda a, _: a.reshape(*a.shape[:-2], -1).T,
        "`heads:N`: query, key or value [N*d, in] -> [in, N, d], bias [N*d] -> [N, d]",
    ),
    "out heads": Transform(
        lambda a, n: a.T.reshape(*n, -1, a.shape[0]),
        lambda a, _: a.reshape(-1, a.shape[-1]).T,
        "`out heads:N`: an attention's output [out, N*d] -> [N, d, out]",
    ),
    "channels": Transform(
        lambda a, n: a.reshape(-1, *(1,) * n[0]),
        lambda a, _: a.reshape(-1),
        "`channels:K`: [out] -> [out, 1, ...], K ones, equinox's bias of a convolution",
    ),
    "squeezed": Transform(
        lambda a, _: a.reshape(a.shape[1:]), lambda a, _: a[None], "[1, ...] -> [...]"
    ),
    "unsqueezed": Transform(
        lambda a, _: a[None], lambda a, _: a.reshape(a.shape[1:]), "[...] -> [1, ...]"
    ),
}
# PyTorch's buffers that take no part in any result.
UNMAPPED = ("num_batches_tracked",)


def to_jax(torch_arrays: Mapping[str, np.ndarray], mapping: Map) -> dict:
    """JAX's arrays by name, of those of PyTorch's that are given.

    Raises:
        ValueError: a transform that isn't known, or doesn't fit its array.
    """
    result: dict[str, np.ndarray] = {}
    stacked: dict[str, dict[int, np.ndarray]] = {}
    for name, entry in mapping.items():
        if name not in torch_arrays:
            continue
        parts, array = parts_of(entry), np.asarray(torch_arrays[name])
        if len(parts) > 1 and (not array.ndim or len(array) % len(parts)):
            raise ValueError(
                f"weights: {name!r} has {len(parts)} equal parts in the map, "
                f"its shape is {list(array.shape)}"
            )
        pieces = np.split(array, len(parts)) if len(parts) > 1 else [array]
        for (target, transform), piece in zip(parts, pieces, strict=True):
            if target is None:
                continue
            changed = _apply(transform, piece, "to_jax", name, target)
            row = re.fullmatch(r"(.*)\[(\d+)\]", target)
            if row:
                stacked.setdefault(row[1], {})[int(row[2])] = changed
            else:
                result[target] = changed
    for target, rows in stacked.items():
        result[target] = np.stack([rows[i] for i in sorted(rows)])
    return result


def to_torch(jax_arrays: Mapping[str, np.ndarray], mapping: Map) -> dict:
    """PyTorch's arrays by name, of those whose parts are all given; see `to_jax`."""
    result: dict[str, np.ndarray] = {}
    for name, entry in mapping.items():
        pieces = []
        for target, transform in parts_of(entry):
            if target is None:
                pieces.append(np.zeros(_zero_shape(transform)))
                continue
            row = re.fullmatch(r"(.*)\[(\d+)\]", target)
            array = jax_arrays.get(row[1] if row else target)
            if array is None:
                break
            array = np.asarray(array)[int(row[2])] if row else np.asarray(array)
            pieces.append(_apply(transform, array, "to_torch", name, target))
        else:
            result[name] = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
    return result


def parts_of(entry: Entry) -> list[Part]:
    """The parts of one entry, each as (JAX's name, transform)."""
    entries = entry if isinstance(entry, list) else [entry]
    return [(e, "same") if isinstance(e, str) else e for e in entries]


def _named(transform: str) -> tuple[str, tuple[int, ...]]:
    name, _, numbers = transform.partition(":")
    return name, tuple(int(n) for n in numbers.split("x") if n)


def _zero_shape(transform: str) -> tuple[int, ...]:
    name, shape = _named(transform)
    if name != "zero":
        raise ValueError(
            "weights: an entry without a name in JAX is (None, 'zero:4x3') with its "
            f"shape in PyTorch, got (None, {transform!r})"
        )
    return shape


def _apply(
    transform: str, array: np.ndarray, way: str, torch_name: str, jax_name: str
) -> np.ndarray:
    where = f"weights: {torch_name!r} -> ({jax_name!r}, {transform!r})"
    try:
        name, numbers = _named(transform)
        change = getattr(TRANSFORMS[name], way)
    except (KeyError, ValueError, AttributeError):
        known = "; ".join(f"{k!r}: {v.meaning}" for k, v in TRANSFORMS.items())
        raise ValueError(f"{where}: expected a known transform: {known}") from None
    try:
        return change(array, numbers)
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"{where}: does not fit an array of shape {list(array.shape)}: {error}"
        ) from None


def check(mapping: Map, torch_shapes: Shapes, jax_shapes: Shapes) -> None:
    """Whether the map carries every array of both sides to the right shape.

    Raises:
        ValueError: names what is not there, left out, reached twice, or of another
            shape.
    """
    needed = {n for n in torch_shapes if n.rpartition(".")[2] not in UNMAPPED}
    faults = [f"{n!r} of PyTorch has no entry" for n in sorted(needed - set(mapping))]
    faults += [
        f"PyTorch has no {n!r}; it has {', '.join(sorted(torch_shapes))}"
        for n in sorted(set(mapping) - set(torch_shapes))
    ]
    targets = [t for entry in mapping.values() for t, _ in parts_of(entry) if t]
    faults += [
        f"{t!r} of JAX is reached twice"
        for t in sorted({t for t in targets if targets.count(t) > 1})
    ]
    carried = to_jax({n: _empty(s) for n, s in torch_shapes.items()}, mapping)
    for name in sorted(set(carried) | set(jax_shapes)):
        if name not in jax_shapes:
            known = ", ".join(sorted(jax_shapes))
            faults.append(f"JAX has no {name!r}; it has {known}")
        elif name not in carried:
            faults.append(f"{name!r} of JAX is reached by no entry")
        elif carried[name].shape != tuple(jax_shapes[name]):
            faults.append(
                f"{name!r} has shape {list(jax_shapes[name])} in JAX, the map gives "
                f"{list(carried[name].shape)}"
            )
    if faults:
        raise ValueError("weights: " + "; ".join(faults))


def _empty(shape: Iterable[int]) -> np.ndarray:
    """Zeros of a shape, without the memory."""
    return np.broadcast_to(np.zeros(()), tuple(shape))


def as_source(mapping: Map) -> str:
    """The map as Python source to paste."""
    lines = [f"    {name!r}: {entry!r},\n" for name, entry in mapping.items()]
    return ("weights = {\n" + "".join(lines) + "}").replace("'", '"')
