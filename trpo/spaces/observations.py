"""Observation spaces: which an agent can take, flat, and where in them images are."""

from collections.abc import Iterator

import numpy as np
from gymnasium import spaces

from trpo.common.validation import DTYPES
from trpo.spaces.architecture import Image


class FlatBox(spaces.Box):
    """The Box of a flattened observation, which knows the images in it.

    Args:
        box: As `gymnasium.spaces.flatten_space` makes it.
        images: In it, in order.
    """

    def __init__(self, box: spaces.Box, images: tuple[Image, ...]) -> None:
        super().__init__(box.low, box.high, dtype=box.dtype.type)
        self.images = images


def is_vector(space: spaces.Space) -> bool:
    """Whether observations of this space are arrays of numbers, and no images."""
    if not is_numbers(space):
        return False
    return not (space.dtype == np.uint8 and len(space.shape or ()) >= 2)


def is_numbers(space: spaces.Space) -> bool:
    """Whether it is a Box with entries that a checkpoint can hold."""
    if not isinstance(space, spaces.Box):
        return False
    return bool(np.prod(space.shape) > 0) and space.dtype.name in DTYPES


def is_image(space: spaces.Space) -> bool:
    """Whether it is a Box of uint8, of rows and columns, and perhaps channels.

    Pixels of another dtype are numbers like any other: nothing tells their scale.
    """
    if not is_numbers(space):
        return False
    return space.dtype == np.uint8 and len(space.shape or ()) in (2, 3)


def is_flattenable(space: spaces.Space) -> bool:
    """Whether `gymnasium.spaces.flatten` makes an array of numbers of an observation.

    Pixels among them.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = _parts(space)
        return len(parts) > 0 and all(map(is_flattenable, parts))
    kinds = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    if isinstance(space, spaces.MultiDiscrete) and space.dtype == np.uint64:
        return False  # Gymnasium counts its columns in floats then, and fails.
    return isinstance(space, kinds) or is_vector(space) or is_image(space)


def flattened(space: spaces.Space) -> spaces.Space:
    """The space of observations as an agent takes them; others stay what they are."""
    if is_vector(space) or is_image(space) or not is_flattenable(space):
        return space
    flat = spaces.flatten_space(space)
    assert isinstance(flat, spaces.Box)
    images = tuple(_images(space, 0))
    return FlatBox(flat, images) if images else flat


def images_of(space: spaces.Space) -> tuple[Image, ...]:
    """The images in an observation, flat: of an image, or of what `flattened` made."""
    if isinstance(space, FlatBox):
        return space.images
    return tuple(_images(space, 0))


def _images(space: spaces.Space, start: int) -> Iterator[Image]:
    """Images in a space whose entries begin at column `start`."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in _parts(space):
            yield from _images(part, start)
            start += spaces.flatdim(part)
    elif is_image(space):
        shape = (*(space.shape or ()), 1)[:3]
        # Both orders are in use, and no image has more channels than pixels a side.
        if shape[0] < min(shape[1:]):
            channels, height, width = shape
            yield Image(start, height, width, channels, channels_first=True)
        else:
            height, width, channels = shape
            yield Image(start, height, width, channels)


def _parts(space: spaces.Dict | spaces.Tuple) -> list[spaces.Space]:
    named = isinstance(space, spaces.Dict)
    return list(space.spaces.values() if named else space.spaces)
