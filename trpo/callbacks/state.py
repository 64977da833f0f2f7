"""State of callbacks as JSON, from which it comes back as it was.

JSON knows neither tuples nor infinities nor keys that are no text. They are written as
a dictionary of one key that begins with `$`, as is a dictionary that has such a key; a
state without any of them is written as it is.
"""

import json
import math
import operator
from collections.abc import Mapping
from typing import Any


_FLOAT, _TUPLE, _DICT = "$float", "$tuple", "$dict"
# Far below what a reader of JSON goes down to, and what an int may be read from.
MOST_NESTED, MOST_BITS = 100, 10_000
# Of each callback, as JSON with a line for each value; a manifest has eight times that.
MOST_BYTES = 2 * 2**20


class CallbackStateError(ValueError):
    """A callback's state can't be saved, or one that was saved is not its own."""


def encoded_state(name: str, state: Any) -> dict[str, Any]:
    """The state of the callback `name`, so that `decoded_state` gives it back.

    What comes back is equal to `state`: NumPy's numbers become Python's, and members of
    an Enum their values.

    Raises:
        CallbackStateError: it has a part that is not None, a flag, a number, text, or a
            list, tuple or dictionary of these; says where. Or it is too large.
    """
    if state is not None and not isinstance(state, Mapping):
        raise CallbackStateError(
            f"`callbacks`: expected a dictionary from {name}.get_state, got "
            f"{type(state).__name__}."
        )
    encoded = {} if state is None else _encoded(state, f"{name}.get_state()", 0)
    if (size := len(json.dumps(encoded, indent=1))) > MOST_BYTES:
        raise CallbackStateError(
            f"`callbacks`: expected at most {MOST_BYTES:,} bytes of JSON from "
            f"{name}.get_state, got {size:,}."
        )
    return encoded


def decoded_state(state: Any) -> Any:
    """Inverse of `encoded_state`."""
    if isinstance(state, list):
        return [decoded_state(part) for part in state]
    if not isinstance(state, dict):
        return state
    if [*state] == [_FLOAT]:
        return float(state[_FLOAT])
    if [*state] == [_TUPLE]:
        return tuple(decoded_state(part) for part in state[_TUPLE])
    if [*state] == [_DICT]:
        return {decoded_state(k): decoded_state(v) for k, v in state[_DICT]}
    return {key: decoded_state(part) for key, part in state.items()}


def _encoded(value: Any, where: str, depth: int) -> Any:
    if depth > MOST_NESTED:
        raise CallbackStateError(
            f"`callbacks`: expected at most {MOST_NESTED} levels of lists and "
            f"dictionaries, got more in {where[:80]}…"
        )
    if isinstance(value, list | tuple):
        parts = [_encoded(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
        return parts if isinstance(value, list) else {_TUPLE: parts}
    if not isinstance(value, Mapping):
        return _encoded_scalar(value, where)
    pairs = [
        [_encoded(key, where, depth + 1), _encoded(v, f"{where}[{key!r}]", depth + 1)]
        for key, v in value.items()
    ]
    plain = all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs)
    return dict(pairs) if plain else {_DICT: pairs}


def _encoded_scalar(value: Any, where: str) -> Any:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and value.bit_length() <= MOST_BITS:
        return operator.index(value)
    if isinstance(value, float):
        value = float(value)
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    raise CallbackStateError(
        "`callbacks`: expected a state of None, flags, numbers, text, and lists, "
        f"tuples and dictionaries of these, got {type(value).__name__} at {where}."
    )
