"""Dict and Tuple actions taken apart and put together."""

from collections.abc import Iterator
from typing import Any

from gymnasium import spaces


def leaves(space: spaces.Space) -> Iterator[spaces.Space]:
    """The spaces in a Dict or Tuple, those in its own Dicts and Tuples included."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        yield space
        return
    for part in space.values() if isinstance(space, spaces.Dict) else space:
        yield from leaves(part)


def filled(space: spaces.Space, parts: Iterator[Any]) -> Any:
    """A Dict's or Tuple's action from those of its `leaves`, in order."""
    if isinstance(space, spaces.Dict):
        return {name: filled(part, parts) for name, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(filled(part, parts) for part in space)
    return next(parts)


def first(sent: Any) -> Any:
    """The first environment's action."""
    if isinstance(sent, dict):
        return {name: first(part) for name, part in sent.items()}
    return tuple(map(first, sent)) if isinstance(sent, tuple) else sent[0]
