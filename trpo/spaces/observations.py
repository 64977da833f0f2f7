"""Observation spaces: which an agent can take, as flat arrays, and how they are read.

What an environment gives is checked here against its space, part by part.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from trpo.common.validation import DTYPES, on_host, shown
from trpo.spaces.architecture import Image


MOST_OPTIONS = 2**20
"""Options that a network can have an input or an output for."""
# Numbers of 0 and 1 need no more.
ONE_HOT = np.dtype(np.uint8)
CHOICES = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
NO_FIXED_SIZE: dict[type[Any], str] = {
    spaces.Sequence: "has no fixed length: have a wrapper pad it to a Box",
    spaces.Graph: "has any number of nodes: have a wrapper pad it to Boxes",
    spaces.OneOf: "has parts of which one is there at a time: have a wrapper give them "
    "all in a Dict, beside a Discrete that says which one counts",
}


class FlatBox(spaces.Box):
    """The Box of a flattened observation, which knows what it was made of.

    Args:
        box: Bounds of all entries.
        images: In it, in order.
        original: The space before it was flattened.
    """

    def __init__(
        self, box: spaces.Box, images: tuple[Image, ...], original: spaces.Space[Any]
    ) -> None:
        super().__init__(box.low, box.high, dtype=box.dtype.type)
        self.images, self.original = images, original


class Part(NamedTuple):
    """One part of an observation, which is no Dict and no Tuple.

    Attributes:
        path: keys and indices that lead to it.
        space: its own.
        columns: its entries of the flat observation.
    """

    path: tuple[str | int, ...]
    space: spaces.Space[Any]
    columns: slice


def is_vector(space: spaces.Space[Any]) -> bool:
    """Whether observations of this space are arrays of numbers, and no images."""
    if not is_numbers(space):
        return False
    return not (space.dtype == np.uint8 and len(space.shape or ()) >= 2)


def is_numbers(space: spaces.Space[Any]) -> bool:
    """Whether it is a Box with entries that a checkpoint can hold."""
    if not isinstance(space, spaces.Box):
        return False
    return bool(np.prod(space.shape) > 0) and space.dtype.name in DTYPES


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether it is a Box of uint8, of rows and columns, and perhaps channels.

    Pixels of another dtype are numbers like any other: nothing tells their scale.
    """
    if not is_numbers(space):
        return False
    return space.dtype == np.uint8 and len(space.shape or ()) in (2, 3)


def refusals(space: spaces.Space[Any], name: str = "") -> list[str]:
    """Why an observation can't be made an array of numbers; none if it can.

    Args:
        space: Of the observation, or of one of its parts.
        name: Of the part, such as "outer.inner".
    """
    if parts := _parts(space):
        inner = ((f"{name}.{key}" if name else str(key), part) for key, part in parts)
        return [reason for key, part in inner for reason in refusals(part, key)]
    if (reason := _refusal(space)) is None:
        return []
    if not name:
        return [f"It {reason}."]
    leave_out = f", or leave it out: --omit-observations {name}"
    return [f"Its part {name!r}, {space}, {reason}{leave_out}."]


def _refusal(space: spaces.Space[Any]) -> str | None:
    """Why a part is no array of numbers; None if it is one."""
    for kind, reason in NO_FIXED_SIZE.items():
        if isinstance(space, kind):
            return reason
    if isinstance(space, spaces.Box):
        return _box_refusal(space)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        options = int(np.sum(_sizes(space), dtype=object))
        if options > MOST_OPTIONS:
            return f"has {options:,} options, where {MOST_OPTIONS:,} are the most"
        return None if options else "has no entries"
    if isinstance(space, spaces.MultiBinary | spaces.Text):
        return None
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return "has no parts"
    return "is no array of numbers: have a wrapper make it one"


def _box_refusal(space: spaces.Box) -> str | None:
    if is_vector(space) or is_image(space):
        return None
    if is_numbers(space):
        return "has more than three dimensions: join images along their channels"
    return f"has no entries, or is of a dtype beside {', '.join(DTYPES)}"


def flattened(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space of observations as an agent takes them; others stay what they are."""
    if is_vector(space) or is_image(space) or refusals(space):
        return space
    boxes = [_flat(part.space) for part in flat_parts(space)]
    low, high = (
        np.concatenate([getattr(box, bound) for box in boxes])
        for bound in ("low", "high")
    )
    # As Gymnasium's, but that small numbers do where all are of choices.
    dtype = ONE_HOT
    if not all(isinstance(part.space, CHOICES) for part in flat_parts(space)):
        dtype = np.result_type(*(box.dtype for box in boxes))
    flat = spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype.type)
    return FlatBox(flat, images_of(space), space)


def unflattened(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space of observations as their environment gives them."""
    return space.original if isinstance(space, FlatBox) else space


def _flat(space: spaces.Space[Any]) -> spaces.Box:
    """One part's Box, of one dimension."""
    if isinstance(space, spaces.Box):
        low, high = space.low.reshape(-1), space.high.reshape(-1)
        return spaces.Box(low, high, dtype=space.dtype.type)
    if isinstance(space, spaces.Text):
        most = len(space.character_set)
        return spaces.Box(0, most, (space.max_length,), np.int32)
    assert space.dtype is not None
    return spaces.Box(0, 1, (_flat_size(space),), space.dtype.type)


def _flat_size(space: spaces.Space[Any]) -> int:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return int(_sizes(space).sum())
    if isinstance(space, spaces.Text):
        return space.max_length
    return int(np.prod(space.shape or ()))


def _sizes(space: spaces.Discrete | spaces.MultiDiscrete) -> np.ndarray:
    """Options of each choice, flat."""
    sizes = space.n if isinstance(space, spaces.Discrete) else space.nvec
    return np.reshape(sizes, -1).astype(np.int64)


def images_of(space: spaces.Space[Any]) -> tuple[Image, ...]:
    """The images in an observation, flat: of an image, or of what `flattened` made."""
    if isinstance(space, FlatBox):
        return space.images
    parts = flat_parts(space) if not refusals(space) else ()
    return tuple(_image(part) for part in parts if is_image(part.space))


def _image(part: Part) -> Image:
    shape, start = (*(part.space.shape or ()), 1)[:3], part.columns.start
    # Both orders are in use, and no image has more channels than pixels a side.
    if shape[0] < min(shape[1:]):
        channels, height, width = shape
        return Image(start, height, width, channels, channels_first=True)
    height, width, channels = shape
    return Image(start, height, width, channels)


def _parts(space: spaces.Space[Any]) -> list[tuple[str | int, spaces.Space]]:
    """Keys and spaces of a Dict's or Tuple's parts; none of any other."""
    if isinstance(space, spaces.Dict):
        return list(space.spaces.items())
    return list(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else []


def flat_parts(space: spaces.Space[Any]) -> tuple[Part, ...]:
    """All parts that are no Dict and no Tuple, in the order of the flat observation."""
    parts, end = [], 0
    for path, leaf in _leaves(space, ()):
        size = _flat_size(leaf)
        parts.append(Part(path, leaf, slice(end, end + size)))
        end += size
    return tuple(parts)


def _leaves(
    space: spaces.Space[Any], path: tuple
) -> Iterator[tuple[tuple, spaces.Space]]:
    parts = _parts(space)
    if not parts:
        yield path, space
    for key, part in parts:
        yield from _leaves(part, (*path, key))


def without(space: spaces.Space[Any], omitted: Sequence[str]) -> spaces.Space[Any]:
    """A Dict of observations without some of its keys, "outer.inner" for one within.

    Raises:
        ValueError: there is no such key, or nothing is left.
    """
    for name in omitted:
        space = _without(space, name, name)
    return space


def _without(space: spaces.Space[Any], name: str, whole: str) -> spaces.Space[Any]:
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {}
    key, dot, inner = name.partition(".")
    if name in parts and len(parts) > 1:
        return spaces.Dict({k: part for k, part in parts.items() if k != name})
    if dot and key in parts:
        return spaces.Dict({**parts, key: _without(parts[key], inner, whole)})
    raise ValueError(
        f"`omit_observations`: expected keys of a Dict of observations, and not all of "
        f"them, got {whole!r}; there are {', '.join(map(str, parts)) or 'none'}."
    )


class ObservationReader:
    """Observations of one environment as flat arrays; each is checked.

    Args:
        space: Of the environment.
        omitted: Keys of a Dict that are left out.
    """

    def __init__(self, space: spaces.Space[Any], omitted: Sequence[str] = ()) -> None:
        kept = without(space, omitted)
        self.space = flattened(kept)
        self._parts = [
            (part, next(w for kind, w in WRITERS.items() if isinstance(space, kind)))
            for part in (flat_parts(kept) if self.space is not kept else ())
            for space in [part.space]
        ]

    def __call__(self, obs: Any) -> Any:
        """`obs` as an array of `self.space`; as it is where no agent can take it.

        Raises:
            ValueError: it is not of its space; names the part.
        """
        if not self._parts:
            space = self.space
            return obs if space.dtype is None else fitting("obs", obs, space)
        flat = np.zeros(self.space.shape or (), self.space.dtype)
        for (path, space, columns), write in self._parts:
            name, value = "obs", obs
            for key in path:
                name, value = f"{name}[{key!r}]", _part(name, value, key)
            write(name, space, value, flat[columns])
        return flat


def _part(name: str, obs: Any, key: str | int) -> Any:
    if isinstance(key, str):
        if isinstance(obs, Mapping) and key in obs:
            return obs[key]
        raise ValueError(f"`{name}`: expected a dict with {key!r}, got {shown(obs)}")
    if isinstance(obs, list | tuple) and key < len(obs):
        return obs[key]
    raise ValueError(f"`{name}`: expected a tuple with an item {key}, got {shown(obs)}")


def fitting(name: str, value: Any, space: Any) -> np.ndarray:
    """`value` as an array of a space's shape and dtype.

    Raises:
        ValueError: it has another shape, or numbers that its dtype does not hold.
    """
    if (
        type(value) is np.ndarray
        and value.dtype == space.dtype
        and value.shape == space.shape
    ):
        return value
    array, expected = _array(value), f"{space.dtype} {list(space.shape or ())}"
    if array.shape == space.shape and _fits(array.dtype, space.dtype):
        # No number that fits a float is too large for it, or is refused as infinite.
        with np.errstate(over="ignore"):
            cast = array.astype(space.dtype)
        if array.dtype.kind not in "iu" or (cast == array).all():
            return cast
        expected += " within its range"
    raise ValueError(
        f"`{name}`: expected an observation of {expected}, as its space says, got "
        f"{_described(value, array)}"
    )


def _array(value: Any) -> np.ndarray:
    """As an array; of objects where it can't be one of numbers."""
    try:
        return np.asarray(value)
    except Exception:  # Of ragged lists, or of a device's own arrays.
        return np.array(None, dtype=object)


def _described(value: Any, array: np.ndarray) -> str:
    if array.dtype.kind not in "biufc":
        return shown(value)
    return f"{array.dtype} {list(array.shape)}"


def _fits(dtype: np.dtype, space_dtype: np.dtype) -> bool:
    """Whether numbers of one dtype may stand for another's, rounded at most."""
    return dtype.kind != "O" and (
        np.can_cast(dtype, space_dtype, "same_kind")
        or (dtype.kind in "iu" and space_dtype.kind in "iu")
    )


def _write_box(name: str, space: Any, value: Any, out: np.ndarray) -> None:
    out[...] = fitting(name, value, space).reshape(-1)


def _write_choices(name: str, space: Any, value: Any, out: np.ndarray) -> None:
    """One-hot numbers of a Discrete's or MultiDiscrete's choices."""
    array, sizes = _array(value), _sizes(space)
    if array.dtype.kind in "biu" and array.size == sizes.size:
        start = np.reshape(space.start, -1).astype(np.int64)
        chosen = array.reshape(-1).astype(np.int64) - start
        if ((chosen >= 0) & (chosen < sizes)).all():
            out[np.cumsum(sizes) - sizes + chosen] = 1
            return
    raise ValueError(f"`{name}`: expected one of {space}, got {shown(value)}")


def _write_bits(name: str, space: Any, value: Any, out: np.ndarray) -> None:
    array = _array(value)
    fits = array.shape == space.shape and array.dtype.kind in "biuf"
    if fits and np.isin(array, (0, 1)).all():
        out[...] = array.reshape(-1)
        return
    raise ValueError(f"`{name}`: expected one of {space}, got {shown(value)}")


def _write_text(name: str, space: Any, value: Any, out: np.ndarray) -> None:
    """The index of each character; after the last one, that of none."""
    known = isinstance(value, str) and len(value) <= space.max_length
    if not (known and set(value) <= set(space.character_set)):
        raise ValueError(f"`{name}`: expected one of {space}, got {shown(value)}")
    out[...] = len(space.character_set)
    out[: len(value)] = [space.character_index(character) for character in value]


WRITERS: dict[type, Callable[[str, Any, Any, np.ndarray], None]] = {
    spaces.Box: _write_box,
    spaces.Discrete: _write_choices,
    spaces.MultiDiscrete: _write_choices,
    spaces.MultiBinary: _write_bits,
    spaces.Text: _write_text,
}


def flat_rows(space: spaces.Space[Any], obs: Any) -> tuple[np.ndarray, bool]:
    """Observations [B, entries] as `ObservationReader` makes them, of one or of many.

    Args:
        space: Of one observation.
        obs: One, or a batch of them, its parts arrays [B, …].

    Returns:
        The rows, and whether it was one.

    Raises:
        ValueError: they are none of this space; names the part.
    """
    parts, arrays = flat_parts(space), []
    for path, _, _ in parts:
        name, value = "obs", obs
        for key in path:
            name, value = f"{name}[{key!r}]", _part(name, value, key)
        arrays.append((name, on_host(value)))
    one = arrays[0][1].shape == tuple(parts[0].space.shape or ())
    count = 1 if one or arrays[0][1].ndim == 0 else len(arrays[0][1])
    rows = np.zeros((count, parts[-1].columns.stop), flattened(space).dtype)
    for (_, leaf, columns), (name, array) in zip(parts, arrays, strict=True):
        shape = tuple(leaf.shape or ())
        if array.shape != (shape if one else (count, *shape)):
            raise ValueError(
                f"`{name}`: expected shape {list(shape)}, or [B, …] of such, got "
                f"{list(array.shape)}."
            )
        write = next(w for kind, w in WRITERS.items() if isinstance(leaf, kind))
        for row, value in zip(rows, array[None] if one else array, strict=True):
            write(name, leaf, value, row[columns])
    return rows, one
