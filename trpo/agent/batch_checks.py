"""Checks of what a caller hands to an agent; each error names the argument."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from trpo.common.validation import on_host
from trpo.data.batch import Batch, SequenceBatch
from trpo.data.hidden_state import Memory


# Largest absolute value of what enters arithmetic in a dtype. In float32: that whose
# square is where its numbers end, and which no integer of a space is above. In float64,
# in which running statistics are: a run has 10^12 steps at most, so that a discounted
# return of rewards up to x is 10^12 x at most, and the sum of squared deviations of as
# many of them 10^12 (2 * 10^12 x)^2, which overflows above 6 * 10^135.
LARGEST = {"float32": 2.0**64, "float64": 1e130}
REQUIRED_SAMPLES = tuple(n for n in Batch._fields if n not in Batch._field_defaults)


def real_array(name: str, array: Any) -> np.ndarray:
    """`array` as a NumPy array of real numbers; a tensor without its gradient.

    Raises:
        ValueError: it holds anything else.
    """
    try:
        array = on_host(array)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"`{name}`: expected an array, got {error}.") from error
    if array.dtype.kind not in "fiub":
        raise ValueError(f"`{name}`: expected real numbers, got dtype {array.dtype}.")
    return array


def require_shape(name: str, array: Any, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError unless `array` has this shape; None stands for 1 or more."""
    got = tuple(array.shape)
    fits = len(got) == len(shape) and all(
        size == expected or (expected is None and size >= 1)
        for size, expected in zip(got, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("N" if size is None else str(size) for size in shape)
        raise ValueError(f"`{name}`: expected shape [{expected}], got {list(got)}.")


@functools.cache
def largest_observation(dtype: Any, normalized: bool) -> float:
    """Largest absolute value of an observation that an agent takes.

    Args:
        dtype: Of the agent's arithmetic.
        normalized: Whether observations are normalised, which is done in float64.
    """
    return LARGEST["float64" if normalized else np.dtype(dtype).name]


def require_finite(name: str, array: np.ndarray, largest: float | None = None) -> None:
    """Raise ValueError, naming the first bad entry, unless all entries are finite.

    Args:
        name: Of the array.
        array: Of numbers.
        largest: Absolute value above which an entry is as bad.
    """
    finite = np.isfinite(array) if largest is None else is_within(array, largest)
    if not finite.all():
        index = tuple(np.argwhere(~finite)[0].tolist())
        most = "" if largest is None else f" of {largest:.2g} at most"
        raise ValueError(
            f"`{name}`: expected finite numbers{most} in {array.dtype}, got "
            f"{array[index]} at index {list(index)}."
        )


def is_within(array: np.ndarray, largest: float) -> np.ndarray:
    """Whether each entry's absolute value is `largest` at most; of a NaN it is not."""
    # Not a Python float, which would become one of the array's dtype, perhaps inf.
    return np.abs(array) <= np.float64(largest)


def batch_fields(batch: Mapping[str, Any] | Batch) -> dict[str, Any]:
    """The batch's fields by name, `action_mask` if it has one; others are left out.

    Raises:
        ValueError: one is missing, or `batch` is no mapping.
    """
    if isinstance(batch, Batch):
        return {
            n: a
            for n, a in batch._asdict().items()
            if n in REQUIRED_SAMPLES or a is not None
        }
    if not isinstance(batch, Mapping):
        raise ValueError(f"`batch`: expected a mapping or a Batch, got {type(batch)}.")
    if missing := [name for name in REQUIRED_SAMPLES if name not in batch]:
        raise ValueError(
            f"`batch`: expected the fields {list(REQUIRED_SAMPLES)}, got no "
            f"{missing[0]!r}."
        )
    fields = {name: batch[name] for name in REQUIRED_SAMPLES}
    if batch.get("action_mask") is not None:
        fields["action_mask"] = batch["action_mask"]
    return fields


def as_rows(name: str, array: Any, rows: int, *, width: int) -> Any:
    """`array` as [rows, width]; one of width 1 may come as [rows].

    Raises:
        ValueError: it has another shape.
    """
    shape = tuple(array.shape)
    if shape != (rows, width) and not (width == 1 and shape == (rows,)):
        expected = f"[{rows}] or [{rows}, 1]" if width == 1 else f"[{rows}, {width}]"
        raise ValueError(f"`{name}`: expected shape {expected}, got {list(shape)}.")
    return array.reshape(rows, width)


def action_bounds(low: Any, high: Any, act_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of actions, each as [act_dim].

    Raises:
        ValueError: a bound has another shape, is NaN, or is on the wrong side.
    """
    arrays = []
    for name, bound in (("action_low", low), ("action_high", high)):
        array = np.asarray(bound, dtype=np.float64)
        if array.shape not in ((), (1,), (act_dim,)):
            raise ValueError(
                f"`{name}`: expected a number or shape [{act_dim}], "
                f"got {list(array.shape)}."
            )
        if np.isnan(array).any():
            raise ValueError(f"`{name}`: expected numbers, got {array}.")
        arrays.append(np.broadcast_to(array, (act_dim,)).copy())
    if (arrays[0] > arrays[1]).any():
        raise ValueError(
            f"`action_low`: expected no entry above `action_high`, got {arrays[0]} "
            f"and {arrays[1]}."
        )
    return arrays[0], arrays[1]


REQUIRED_SEQUENCES = tuple(
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
    if missing := [name for name in REQUIRED_SEQUENCES if name not in batch]:
        raise ValueError(
            f"`batch`: expected the fields {list(REQUIRED_SEQUENCES)}, got no "
            f"{missing[0]!r}."
        )
    return SequenceBatch(*(batch.get(name) for name in SequenceBatch._fields))


def flag_array(name: str, flags: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`given` as bool [T, B].

    Raises:
        ValueError: it has another shape, or entries that are neither 0 nor 1.
    """
    array = real_array(name, flags)
    require_shape(name, array, shape)
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"`{name}`: expected True and False alone, or 1 and 0.")
    return array.astype(bool)


def check_memory(name: str, memory: Any, rows: int, size: int) -> Memory:
    """`given` as a Memory of `rows` environments, unconverted.

    Raises:
        ValueError: it is no pair of finite arrays [rows, size].
    """
    if not (isinstance(memory, tuple | list) and len(memory) == 2):
        raise ValueError(
            f"`{name}`: expected a trpo.data.hidden_state.Memory, as `act` returns it, "
            f"got {memory!r}."
        )
    for field, array in zip(Memory._fields, memory, strict=True):
        label = f"{name}.{field}"
        shaped = array if hasattr(array, "shape") else real_array(label, array)
        require_shape(label, shaped, (rows, size))
        if isinstance(shaped, np.ndarray):
            require_finite(label, real_array(label, shaped))
    return Memory(*memory)
