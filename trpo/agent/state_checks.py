"""Checks that a canonical state fits before any of it is used."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from trpo.agent.batch_checks import LARGEST
from trpo.common.validation import LARGEST_COUNT, shown


# Draws that leave a run as many again; whole numbers that a float64 can count to.
MOST_DRAWS, MOST_VECTORS = 2**62, 2**53
_NEVER_NEGATIVE = (
    "value_optimizer.second_moment.",
    "cost_value_optimizer.second_moment.",
    "policy_step.damping",
)


class Entry(NamedTuple):
    """What an array of a state has to be; every number finite.

    Attributes:
        dtype: its name.
        shape: its shape.
        low: the lowest that a number may be, or an array that broadcasts; None for any.
        high: the highest, likewise.
        whole: whether they are whole numbers, of whatever dtype; may be an array too.
    """

    dtype: str
    shape: tuple[int, ...]
    low: Any = None
    high: Any = None
    whole: Any = False


def like(array: np.ndarray) -> Entry:
    """The entry that this array is one of."""
    return Entry(array.dtype.name, array.shape)


def count_entry(high: int, low: int = 0) -> Entry:
    """That of a counter."""
    return Entry("int64", (), low, high)


def moments_entries(
    size: int, largest: float, most: int = MOST_VECTORS
) -> dict[str, Entry]:
    """Those of `trpo.data.normalization.RunningMoments`, by name.

    Args:
        size: Of its vectors.
        largest: Absolute value of what entered them.
        most: How many vectors there can be.
    """
    return {
        "count": Entry("float64", (), 0, most, whole=True),
        "mean": Entry("float64", (size,), -largest, largest),
        "squared_deviations": Entry("float64", (size,), 0, 4.0 * most * largest**2),
    }


def require_moments(state: Mapping[str, np.ndarray], prefix: str) -> None:
    """Raise ValueError if moments of nothing are not 0."""
    for name in ("mean", "squared_deviations"):
        if not state[f"{prefix}count"] and state[f"{prefix}{name}"].any():
            raise ValueError(
                f"`state[{prefix + name!r}]`: expected 0, as {prefix + 'count'!r} is."
            )


def agent_entries(template: Mapping[str, np.ndarray]) -> dict[str, Entry]:
    """Those of an agent's state.

    Args:
        template: A state of an agent of the same configuration.
    """
    entries = {name: like(array) for name, array in template.items()}
    for name, entry in entries.items():
        if name.startswith("random."):
            high = 2**63 - 1 if name.endswith("seed") else MOST_DRAWS
            entries[name] = entry._replace(low=0, high=high)
        elif name.endswith("value_optimizer.step"):
            # A 32-bit number in JAX, which ends there.
            entries[name] = entry._replace(low=0, high=LARGEST_COUNT)
        elif name.startswith(_NEVER_NEGATIVE):
            entries[name] = entry._replace(low=0)
    prefix = "observation_normalizer."
    if prefix + "mean" in entries:
        moments = moments_entries(template[prefix + "mean"].size, LARGEST["float64"])
        entries |= {prefix + name: entry for name, entry in moments.items()}
    return entries


def check_state(
    state: Mapping[str, np.ndarray], entries: Mapping[str, Entry]
) -> dict[str, np.ndarray]:
    """Copies of `state`'s arrays, which are what `entries` say.

    Raises:
        ValueError: a name is missing or unknown, or an array is not what it has to be;
            the message names it.
    """
    require_mapping(state)
    if missing := sorted(set(entries) - set(state)):
        raise ValueError(f"`state`: expected {missing[0]!r}, got no such name.")
    if unknown := sorted(set(state) - set(entries), key=str):
        raise ValueError(f"`state`: got {shown(unknown[0])}, which there is not here.")
    return {name: check_entry(state, name, entries[name]) for name in entries}


def require_mapping(state: object) -> None:
    """Raise ValueError unless `state` is a mapping."""
    if not isinstance(state, Mapping):
        raise ValueError(
            f"`state`: expected arrays by their names, got {shown(state)}."
        )


def check_entry(state: Mapping[str, np.ndarray], name: str, entry: Entry) -> np.ndarray:
    """A copy of the array that is called so.

    Raises:
        ValueError: it is missing, or not what `entry` says.
    """
    if name not in state:
        raise ValueError(f"`state`: expected {name!r}, got no such name.")
    try:
        array = np.array(state[name])
    except ValueError as error:
        raise ValueError(
            f"`state[{name!r}]`: expected an array, got {error}."
        ) from None
    # By name: the order of bytes in memory is not part of a state.
    if array.shape != entry.shape or array.dtype.name != entry.dtype:
        raise ValueError(
            f"`state[{name!r}]`: expected {entry.dtype} {list(entry.shape)}, "
            f"got {array.dtype} {list(array.shape)}."
        )
    bad, wanted = ~np.isfinite(array), "finite numbers"
    if not bad.any() and entry.low is not None:
        # Not Python's numbers, which would become ones of the array's dtype.
        bad = array < np.asarray(entry.low)
        wanted = f"{shown(entry.low)} at least"
    if not bad.any() and entry.high is not None:
        bad, wanted = array > np.asarray(entry.high), f"{shown(entry.high)} at most"
    if not bad.any() and np.any(entry.whole):
        bad, wanted = (array != np.floor(array)) & entry.whole, "whole numbers"
    if bad.any():
        got = array[tuple(np.argwhere(bad)[0])]
        raise ValueError(f"`state[{name!r}]`: expected {wanted}, got {got}.")
    return array
