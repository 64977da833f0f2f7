"""Means over the samples of a batch, each with its weight; and rows of weight 0.

Such a row fills a batch up and counts for nothing. XLA compiles a program for each
shape, and a batch of any size would make one more: so JAX's batches are filled up to
sizes of a ladder, of which there are few, by copies of their first row, as finite as
the others. They stand last in each order of the critic's minibatches; one of nothing
but them makes no step. The host fills up: on a device each size would compile a program
for that.

On many devices a batch is still one array, of which each device has some rows
(`devices/mesh.py`): the same mean is then a sum over all of them, which XLA makes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trpo.data.batch import Sequences
from trpo_jax.distributions import Distribution


def mean(
    values: Float[jax.Array, "m 1"], weights: Float[jax.Array, "n 1"] | None = None
) -> Float[jax.Array, ""]:
    """Weighted mean over all samples.

    Args:
        values: Of each sample, or one row that is the same for all.
        weights: Of each sample; None where all count alike.
    """
    if weights is None or values.shape[0] != weights.shape[0]:
        return values.mean()
    # What fills up may be anything, and 0 times infinity is not 0.
    return jnp.where(weights > 0, values * weights, 0.0).sum() / weights.sum()


def variance(
    values: Float[jax.Array, "n 1"], weights: Float[jax.Array, "n 1"] | None = None
) -> Float[jax.Array, ""]:
    """Population variance over all samples."""
    if weights is None:
        return values.var()
    return mean((values - mean(values, weights)) ** 2, weights)


def weighted(
    tangent: Distribution, weights: Float[jax.Array, "n 1"] | None
) -> Distribution:
    """A distribution's `fisher_metric`, with the rows' weights for 1 / n each.

    Args:
        tangent: [n or 1, …] each; rows that are the same for all stay as they are.
        weights: Of each sample; None where all count alike.
    """
    if weights is None:
        return tangent
    scale = weights * (weights.shape[0] / weights.sum())

    def of_rows(field: jax.Array) -> jax.Array:
        if field.shape[0] != scale.shape[0]:
            return field
        return field * scale.reshape(-1, *(1,) * (field.ndim - 1))

    return jax.tree.map(of_rows, tangent)


def on_ladder(size: int) -> int:
    """The least size of the ladder that is no smaller: at most 1/8 more.

    The ladder has all sizes of up to four binary digits and zeros, such as 2,048, 2,304
    and 2,560; and of one decimal digit and zeros, such as 2,000 and 5,000.
    """
    step = 1 << max(0, (size - 1).bit_length() - 4)
    unit = 10 ** (len(str(size)) - 1)
    return min(-(-size // step) * step, -(-size // unit) * unit)


def filled(values: Any, rows: int, zeros: bool = False) -> np.ndarray:
    """An array on the host, filled up to so many rows by its first, or by zeros."""
    values = np.asarray(values)
    filler = np.zeros_like(values[:1]) if zeros else values[:1]
    missing = rows - len(values)
    return np.concatenate([values, filler.repeat(missing, 0)])


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
