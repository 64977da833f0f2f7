"""Checks of single values that an environment returns, and names of its infos.

They stand at the one door of what comes from environments: of one, as it is stepped,
wherever it lives (`seeded`); and of a whole vector, which may be a user's own, as it is
collected (`checked_vector`).
"""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from trpo.common.validation import shown


RESET, STEP = "reset", "step"
FIELDS: dict[str, tuple[str, ...]] = {
    RESET: ("observation", "info"),
    STEP: ("observation", "reward", "terminated", "truncated", "info"),
}
COST, ACTION_MASK = "cost", "action_mask"
SUCCESS = "is_success"
"""Info of an episode's last step, as in Stable-Baselines3: whether it was solved."""
FINAL_OBS, FINAL_INFO = "final_obs", "final_info"
UNRESTORED = "trpo/unrestored"
"""In the infos of a reset whose actions could not be replayed."""


class CountError(ValueError):
    """What was returned has not as many parts as Gymnasium says."""


def number(name: str, value: Any) -> float:
    """`value` as a float; an array of one number is as good as the number.

    Raises:
        ValueError: it is none.
    """
    if type(value) is float:
        return value
    try:
        if isinstance(value, Real | np.bool_):
            return float(value)
        array = np.asarray(value)
        if array.size == 1 and array.dtype.kind in "biuf":
            return float(array.reshape(-1)[0])
    except Exception:  # An integer that no float holds, or a value's own methods.
        array = None
    several = ""
    if array is not None and array.size > 1 and array.dtype.kind in "biuf":
        several = ". Have a wrapper make one number of it, such as a weighted sum"
    raise ValueError(f"`{name}`: expected a number, got {shown(value)}{several}")


def flag(name: str, value: Any) -> bool:
    """`value` as True or False, which 1 and 0 stand for too.

    Raises:
        ValueError: it is neither.
    """
    if value is True or value is False:
        return value
    try:
        if (truth := number(name, value)) in (0.0, 1.0):
            return bool(truth)
    except ValueError:
        pass
    raise ValueError(f"`{name}`: expected True or False, got {shown(value)}")


def unpacked(phase: str, result: Any) -> tuple[Any, ...]:
    """What "reset" or "step" returned, of as many values as Gymnasium says.

    Raises:
        CountError: it is no tuple of these.
    """
    names = FIELDS[phase]
    if type(result) is tuple and len(result) == len(names) and type(result[-1]) is dict:
        return result
    if isinstance(result, tuple | list) and len(result) == len(names):
        if not isinstance(result[-1], Mapping):
            raise CountError(f"`info`: expected a dict, got {shown(result[-1])}")
        return tuple(result)
    got = shown(result)
    if isinstance(result, tuple | list):
        got = f"{len(result)} values"
    raise CountError(f"`{phase}`: expected ({', '.join(names)}), got {got}")


def kept_infos(info: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of the infos that are read; others, of any size or name, are left out."""
    if not info:
        return {}
    return {
        name: np.array(value) if isinstance(value := info[name], np.ndarray) else value
        for name in (ACTION_MASK, COST, SUCCESS, UNRESTORED)
        if name in info
    }


def info_of(infos: Any, name: str, index: int) -> Any:
    """One environment's info among those of a vector.

    Raises:
        LookupError: it has none.
    """
    if not isinstance(infos, Mapping):
        raise LookupError(name)
    values, present = infos[name], infos.get(f"_{name}")
    if present is not None and not present[index]:
        raise LookupError(name)
    # Gymnasium's vectors join dictionaries of their environments by key.
    return values if isinstance(values, Mapping) else values[index]


def copied(action: Any) -> Any:
    """An action, or those of a vector: an environment may write to what it is sent."""
    if isinstance(action, dict):
        return {name: copied(part) for name, part in action.items()}
    if isinstance(action, tuple):
        return tuple(map(copied, action))
    return np.array(action) if isinstance(action, np.ndarray) else action
