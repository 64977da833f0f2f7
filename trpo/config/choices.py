"""Choices that the fields of a configuration have, and limits that others share."""

import functools
from typing import Any, Literal, get_args, get_origin, get_type_hints

from trpo.common.validation import require_choice


STOP = "stop"
# Checkpoints are named by steps of 12 digits.
LARGEST_STEP = 10**12 - 1
LARGEST_BATCH = 2**30
# Of an evaluation in the middle of training.
INTERIM_EPISODES = 5
# Each episode of an evaluation has an environment of its own.
MOST_EPISODES = 100_000
# Seconds; beyond, the system's own clocks overflow.
LONGEST_WAIT = 1e6

Backend = Literal["jax", "torch"]


@functools.cache
def choices_of(kind: type) -> dict[str, tuple[str, ...]]:
    """Fields whose annotation is a `Literal`, by name, with their values."""
    hints = get_type_hints(kind).items()
    return {n: get_args(hint) for n, hint in hints if get_origin(hint) is Literal}


def require_choices(config: Any) -> None:
    """Raise ValueError, naming field and choices, unless each such field has one.

    Args:
        config: A dataclass.
    """
    for name, choices in choices_of(type(config)).items():
        require_choice(name, getattr(config, name), choices)
