"""Checks of what a caller hands to an agent; each error names the argument."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from trpo.types import Batch


REQUIRED = tuple(n for n in Batch._fields if n not in Batch._field_defaults)


def real_array(name: str, array: Any) -> np.ndarray:
    """`array` as a NumPy array of real numbers.

    Raises:
        ValueError: it holds anything else.
    """
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise ValueError(f"`{name}`: expected an array, got {error}.") from error
    if array.dtype.kind not in "fiub":
        raise ValueError(f"`{name}`: expected real numbers, got dtype {array.dtype}.")
    return array


def require_shape(name: str, array: Any, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError unless `array` has this shape; None stands for 1 or more."""
    got = tuple(array.shape)
    fits = len(got) == len(shape) and all(
        size == wanted or (wanted is None and size >= 1)
        for size, wanted in zip(got, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("N" if size is None else str(size) for size in shape)
        raise ValueError(f"`{name}`: expected shape [{wanted}], got {list(got)}.")


def require_finite(name: str, array: np.ndarray) -> None:
    """Raise ValueError, naming the first bad entry, unless all entries are finite."""
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(np.argwhere(~finite)[0].tolist())
        raise ValueError(
            f"`{name}`: expected finite numbers in {array.dtype}, got {array[index]} "
            f"at index {list(index)}."
        )


def batch_fields(batch: Mapping[str, Any] | Batch) -> dict[str, Any]:
    """The batch's fields by name, `action_mask` if it has one; others are left out.

    Raises:
        ValueError: one is missing, or `batch` is no mapping.
    """
    if isinstance(batch, Batch):
        return {
            n: a for n, a in batch._asdict().items() if n in REQUIRED or a is not None
        }
    if not isinstance(batch, Mapping):
        raise ValueError(f"`batch`: expected a mapping or a Batch, got {type(batch)}.")
    if missing := [name for name in REQUIRED if name not in batch]:
        raise ValueError(
            f"`batch`: expected the fields {list(REQUIRED)}, got no {missing[0]!r}."
        )
    fields = {name: batch[name] for name in REQUIRED}
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
        wanted = f"[{rows}] or [{rows}, 1]" if width == 1 else f"[{rows}, {width}]"
        raise ValueError(f"`{name}`: expected shape {wanted}, got {list(shape)}.")
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
