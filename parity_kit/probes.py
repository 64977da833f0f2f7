"""Intermediate results that a user marks: `x = probe("hidden", x)`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


# What records probes now, set by one side of a proof; outside a proof there is none.
_recorders: list[Callable[[str, Any], None]] = []


def probe(name: str, x: Any) -> Any:
    """Mark an intermediate result; returns it as it is.

    In a proof, arrays that both sides mark with one name are compared, before the
    outputs. A name that is met again gets a number: `hidden`, `hidden#2`. Outside a
    proof it does nothing.

    Raises:
        ValueError: the name is no text, or one of a stage.
    """
    if not isinstance(name, str) or not name or "/" in name or name in STAGES:
        raise ValueError(
            f"`name`: expected a text without '/' that is none of {', '.join(STAGES)}, "
            f"got {name!r}."
        )
    if _recorders:
        _recorders[-1](name, x)
    return x


STAGES = ("defaults", "outputs", "loss", "gradient", "optimizer", "state")


@contextmanager
def recording(record: Callable[[str, Any], None]) -> Iterator[None]:
    """Hand every probe to `record` inside."""
    _recorders.append(record)
    try:
        yield
    finally:
        _recorders.pop()


def active() -> Callable[[str, Any], None] | None:
    """What records now; a compiled program asks when it runs, not when it is made."""
    return _recorders[-1] if _recorders else None


def numbered(name: str, taken: Any) -> str:
    """The name, or with the first number that is free: `hidden#2`."""
    if name not in taken:
        return name
    number = 2
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"
