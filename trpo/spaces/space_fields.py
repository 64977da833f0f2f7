"""Spaces and specifications of policies as JSON can hold them, and back.

What comes back is made of numbers and of a few known classes alone: the fields may be
a stranger's.
"""

import dataclasses
from collections import OrderedDict
from typing import Any

import numpy as np
from gymnasium import spaces

from trpo.common.validation import DTYPES, require_count, shown
from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import Image
from trpo.spaces.spaces import PolicySpec


# Kind of space -> its attributes, which are arguments of its class too.
_SPACES: dict[str, tuple[type[spaces.Space], tuple[str, ...]]] = {
    "Box": (spaces.Box, ("low", "high", "dtype")),
    "Discrete": (spaces.Discrete, ("n", "start")),
    "MultiDiscrete": (spaces.MultiDiscrete, ("nvec", "start", "dtype")),
    "MultiBinary": (spaces.MultiBinary, ("n",)),
    "Dict": (spaces.Dict, ("spaces",)),
    "Tuple": (spaces.Tuple, ("spaces",)),
}


# Entries of an array whose numbers are all one: 8 bytes may not stand for gigabytes.
LARGEST_ARRAY = 2**24


_NOTHING = spaces.Box(-1.0, 1.0)


def space_fields(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space as JSON.

    Raises:
        ValueError: it is of another kind than those an agent takes.
    """
    for name, (kind, attributes) in _SPACES.items():
        if isinstance(space, kind):
            fields = {key: _plain(getattr(space, key)) for key in attributes}
            return {"space": name, **fields}
    raise ValueError(f"`space`: expected one of {list(_SPACES)}, got {space}.")


def space_of(fields: Any) -> Any:
    """The space of these fields.

    Raises:
        ValueError: there is none.
    """
    try:
        kind, attributes = _SPACES[fields["space"]]
        return kind(**{key: _value(fields[key]) for key in attributes})
    except Exception as error:  # Gymnasium's classes assert, and more.
        raise ValueError(f"`space`: expected a space, got {shown(fields)}.") from error


def spec_fields(spec: PolicySpec) -> dict[str, Any]:
    """A specification as JSON; without a space of observations of no known kind."""
    try:
        space_fields(spec.observation_space or _NOTHING)
    except ValueError:
        spec = spec._replace(observation_space=None)
    fields = {n: _plain(value) for n, value in spec._asdict().items()}
    fields["head"] = list(dataclasses.astuple(spec.head))
    fields["images"] = [list(dataclasses.astuple(image)) for image in spec.images]
    fields["parts"] = [[_plain(columns), spec_fields(p)] for columns, p in spec.parts]
    return fields


def spec_of(fields: Any) -> PolicySpec:
    """The specification of these fields.

    Raises:
        ValueError: there is none.
    """
    try:
        fields = dict(fields)
        read = {
            "head": Head(*map(_value, fields.pop("head"))),
            "images": tuple(_image(image) for image in fields.pop("images")),
            "parts": tuple((_value(c), spec_of(p)) for c, p in fields.pop("parts")),
        }
        spec = PolicySpec(**read, **{n: _value(value) for n, value in fields.items()})
    except (
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ValueError(f"`spec`: expected a specification, got {error}.") from error
    require_count("obs_dim", spec.obs_dim)
    _require_fit(spec)
    return spec


def _require_fit(spec: PolicySpec) -> None:
    """Raise ValueError unless bounds, shapes and parts are of the head's actions."""
    size, start = spec.head.act_dim, spec.action_start
    arrays = [spec.action_low, spec.action_high, *([] if start is None else [start])]
    leaves = [] if spec.structure is None else [part.act_dim for _, part in spec.parts]
    columns = np.concatenate([np.zeros(0, int), *(c for c, _ in spec.parts)])
    if not (
        all(isinstance(a, np.ndarray) and a.shape == (size,) for a in arrays)
        and isinstance(spec.action_dtype, np.dtype)
        and isinstance(spec.action_shape, tuple)
        and all(type(n) is int and n >= 0 for n in spec.action_shape)
        and int(np.prod(spec.action_shape)) == size
        and (not leaves or sorted(columns.tolist()) == list(range(size)))
    ):
        raise ValueError(
            f"`spec`: expected bounds, shapes and parts of {size} entries, got others."
        )


def _image(fields: Any) -> Image:
    *numbers, first = fields
    for number in numbers:
        require_count("images", number, minimum=0)
    return Image(*numbers, channels_first=bool(first))


def _plain(value: Any) -> Any:
    """A field's value as JSON can hold it."""
    if isinstance(value, spaces.Space):
        return space_fields(value)
    if isinstance(value, np.ndarray):
        # As text: JSON has no infinity, and Python's text of a number is exact.
        numbers = (value.astype(int) if value.dtype == bool else value).reshape(-1)
        # Bounds of images are as many equal numbers.
        same = numbers.size > 1 and bool((numbers == numbers[0]).all())
        texts = [str(number) for number in numbers[: 1 if same else None].tolist()]
        return {"numbers": texts, "dtype": value.dtype.name, "shape": [*value.shape]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"named": [[name, _plain(part)] for name, part in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.dtype | type):
        return {"type": np.dtype(value).name}
    return value


def _value(plain: Any) -> Any:
    """What `_plain` made this of."""
    if isinstance(plain, list):
        return tuple(map(_value, plain))
    if not isinstance(plain, dict):
        return plain
    if "space" in plain:
        return space_of(plain)
    if "named" in plain:
        # Gymnasium sorts the names of any other.
        return OrderedDict((name, _value(part)) for name, part in plain["named"])
    name = plain["type"] if "type" in plain else plain["dtype"]
    if name not in DTYPES:
        raise ValueError(f"`dtype`: expected one of {DTYPES}, got {shown(name)}.")
    dtype = np.dtype(name)
    if "type" in plain:
        return dtype
    read = float if dtype.kind == "f" else int
    numbers = np.array([read(text) for text in plain["numbers"]], dtype)
    if numbers.size == 1:
        require_count("shape", int(np.prod(plain["shape"])), 0, LARGEST_ARRAY)
        return np.full(plain["shape"], numbers[0])
    return numbers.reshape(plain["shape"])
