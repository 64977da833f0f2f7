"""Checks of the sequences and hidden states that a recurrent agent is given."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from trpo.agent.batch_checks import real_array, require_finite, require_shape
from trpo.data.sequences import Memory, SequenceBatch


REQUIRED = tuple(
    n for n in SequenceBatch._fields if n not in SequenceBatch._field_defaults
)


def sequence_fields(batch: Mapping[str, Any] | SequenceBatch) -> SequenceBatch:
    """The batch's fields.

    Raises:
        ValueError: one is missing, or `batch` is no mapping.
    """
    if isinstance(batch, SequenceBatch):
        return batch
    if not isinstance(batch, Mapping):
        raise ValueError(
            f"`batch`: expected a mapping or a SequenceBatch, got {type(batch)}."
        )
    if missing := [name for name in REQUIRED if name not in batch]:
        raise ValueError(
            f"`batch`: expected the fields {list(REQUIRED)}, got no {missing[0]!r}."
        )
    return SequenceBatch(*(batch.get(name) for name in SequenceBatch._fields))


def marks(name: str, given: Any, shape: tuple[int, int]) -> np.ndarray:
    """`given` as bool [T, B].

    Raises:
        ValueError: it has another shape, or entries that are neither 0 nor 1.
    """
    array = real_array(name, given)
    require_shape(name, array, shape)
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"`{name}`: expected True and False alone, or 1 and 0.")
    return array.astype(bool)


def check_memory(name: str, given: Any, rows: int, size: int) -> Memory:
    """`given` as a Memory of `rows` environments, unconverted.

    Raises:
        ValueError: it is no pair of finite arrays [rows, size].
    """
    if not (isinstance(given, tuple | list) and len(given) == 2):
        raise ValueError(
            f"`{name}`: expected a trpo.data.sequences.Memory, as `act` returns it, "
            f"got {given!r}."
        )
    for field, array in zip(Memory._fields, given, strict=True):
        label = f"{name}.{field}"
        shaped = array if hasattr(array, "shape") else real_array(label, array)
        require_shape(label, shaped, (rows, size))
        if isinstance(shaped, np.ndarray):
            require_finite(label, real_array(label, shaped))
    return Memory(*given)
