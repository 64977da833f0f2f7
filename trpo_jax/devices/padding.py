"""A batch filled up to a size that a program is compiled for; in JAX alone.

XLA compiles a program for each shape. A batch of any size would make one more, so rows
of weight 0 fill it up to a size of a ladder: there are few of those. They are copies of
its first row, as finite as the others, and stand last in each order of the critic's
minibatches; one of nothing but them makes no step. All else is a mean with weights.
"""

from typing import Any

import numpy as np

from trpo.data.batch import Sequences


def on_ladder(size: int) -> int:
    """The least size of the ladder that is no smaller: at most 1/8 more.

    The ladder has all sizes of up to four binary digits and zeros, such as 2,048, 2,304
    and 2,560; and of one decimal digit and zeros, such as 2,000 and 5,000.
    """
    step = 1 << max(0, (size - 1).bit_length() - 4)
    unit = 10 ** (len(str(size)) - 1)
    return min(-(-size // step) * step, -(-size // unit) * unit)


def filled(values: Any, rows: int, axis: int = 0, zeros: bool = False) -> np.ndarray:
    """An array on the host, filled up to so many rows.

    Args:
        values: An array.
        rows: No fewer than it has.
        axis: Of the rows.
        zeros: Fill up with zeros instead of the first row, or of ones if there is none.
    """
    values = np.asarray(values)
    missing = rows - values.shape[axis]
    shape = [1 if i == axis else size for i, size in enumerate(values.shape)]
    filler = np.full(shape, 0 if zeros else 1, values.dtype)
    if values.shape[axis] and not zeros:
        filler = values.take([0], axis)
    return np.concatenate([values, filler.repeat(missing, axis)], axis)


def fill(batch: Any, rows: int) -> Any:
    """A batch of so many rows, with weights, in arrays of the host.

    Of a recurrent agent's the sequences stay as they are, and what is said of each
    sample is filled up.
    """
    ones = np.ones((len(batch.actions), 1), batch.actions.dtype)
    fields: dict[str, Any] = {"weights": filled(ones, rows, zeros=True)}
    for name, field in batch._asdict().items():
        if isinstance(field, Sequences):
            steps, envs, _ = field.obs.shape
            numbers = np.arange(steps * envs, dtype=np.int32)
            numbers = numbers if field.rows is None else field.rows
            fields[name] = field._replace(rows=filled(numbers, rows))
        elif field is not None and field.ndim == 2:
            fields[name] = filled(field, rows)
    return batch._replace(**fields)


def padded(batch: Any, orders: np.ndarray) -> tuple[Any, np.ndarray]:
    """A batch, and its minibatch orders, of a size of the ladder; as it is on it.

    A recurrent agent's orders are of environments. Its samples are as many as those
    have steps, unless some are left out: only then is there something to fill up.
    """
    size, sequences = len(batch.actions), isinstance(batch.obs, Sequences)
    rows = on_ladder(size)
    if sequences and batch.obs.rows is not None:
        rows = min(rows, batch.obs.valid.size)
    if rows == size or (sequences and batch.obs.rows is None):
        return batch, orders
    if not sequences:
        orders = with_last(orders, np.arange(size, rows))
    return fill(batch, rows), orders


def with_last(orders: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Orders with the numbers of rows that fill up at the end of each."""
    return np.append(orders, np.tile(last, (len(orders), 1)), 1).astype(orders.dtype)
