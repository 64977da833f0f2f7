"""Means over the samples of a batch, each with its weight.

A row of weight 0 fills a batch up and counts for nothing. On many devices a batch is
still one array, of which each device has some rows (`devices/mesh.py`): the same mean
is then a sum over all of them, which XLA makes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

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
