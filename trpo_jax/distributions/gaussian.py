"""Diagonal Gaussian in closed form, free of cancellation.

`parameters` are the mean [n, act_dim] and the log standard deviation, [1, act_dim] or
[n, act_dim]; all sums are over action dimensions, so every result is joint.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.spaces.action_heads import Head
from trpo_jax.distributions.numerics import expm1_minus_argument


LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class DiagonalGaussian(NamedTuple):
    """Mean [n, act_dim] and log standard deviation, [1, act_dim] or [n, act_dim]."""

    mean: Float[jax.Array, "n act_dim"]
    log_std: Float[jax.Array, "m act_dim"]


TYPE = DiagonalGaussian


def clamp_log_std(log_std: Float[jax.Array, "..."]) -> Float[jax.Array, "..."]:
    """`log_std` in [-20, 2], gradient 1 inside and at the bounds, 0 outside."""
    # jnp.clip halves the gradient at a bound; torch's clamp, our reference, does not.
    inside = (log_std >= LOG_STD_MIN) & (log_std <= LOG_STD_MAX)
    bound = jnp.clip(jax.lax.stop_gradient(log_std), LOG_STD_MIN, LOG_STD_MAX)
    return jnp.where(inside, log_std, bound)


def from_network(
    head: Head,
    outputs: Float[jax.Array, "n outputs"],
    log_std: Float[jax.Array, " act_dim"] | None,
) -> DiagonalGaussian:
    """Mean and clamped log_std of what the policy puts out.

    A free `log_std` is the same for each row; without one, the second half of the
    outputs is each row's own.
    """
    if log_std is None:
        mean, log_std = jnp.split(outputs, 2, axis=1)
        return DiagonalGaussian(mean, clamp_log_std(log_std))
    return DiagonalGaussian(outputs, clamp_log_std(log_std)[None])


def log_prob(
    gaussian: DiagonalGaussian, actions: Float[jax.Array, "n act_dim"]
) -> Float[jax.Array, "n 1"]:
    """Log-density of `actions`, nats."""
    z = (actions - gaussian.mean) * jnp.exp(-gaussian.log_std)
    terms = -0.5 * z**2 - gaussian.log_std - 0.5 * math.log(2 * math.pi)
    return terms.sum(-1, keepdims=True)


def log_ratio(
    old: DiagonalGaussian, new: DiagonalGaussian, actions: Float[jax.Array, "n act_dim"]
) -> Float[jax.Array, "n 1"]:
    """log(new density / old density) of `actions`, exact for tiny differences.

    With d = log_std_new - log_std_old, z = (action - mean) / std:
    log ratio = -(z_new - z_old)(z_new + z_old) / 2 - d, and
    z_new - z_old = expm1(-d) z_old - (mean_new - mean_old) / std_new.
    """
    d = new.log_std - old.log_std
    z_old = (actions - old.mean) * jnp.exp(-old.log_std)
    change = jnp.expm1(-d) * z_old - (new.mean - old.mean) * jnp.exp(-new.log_std)
    terms = -0.5 * change * (2.0 * z_old + change) - d
    return terms.sum(-1, keepdims=True)


def entropy(gaussian: DiagonalGaussian) -> Float[jax.Array, "m 1"]:
    """Differential entropy, nats; one row where log_std has one."""
    terms = gaussian.log_std + 0.5 * (1.0 + math.log(2 * math.pi))
    return terms.sum(-1, keepdims=True)


def kl_old_to_new(
    old: DiagonalGaussian, new: DiagonalGaussian
) -> Float[jax.Array, "n 1"]:
    """KL(old || new), nats, accurate relative to itself however small.

    Per dimension, with d = log_std_new - log_std_old and
    z = (mean_new - mean_old) / std_new: (expm1(-2d) + 2d + z²) / 2.
    The usual formula subtracts numbers near 1 and is all rounding error below 1e-7.
    """
    d = new.log_std - old.log_std
    z = (new.mean - old.mean) * jnp.exp(-new.log_std)
    return (0.5 * (expm1_minus_argument(-2.0 * d) + z**2)).sum(-1, keepdims=True)


def sample(
    gaussian: DiagonalGaussian, noise: Float[jax.Array, "n act_dim"]
) -> Float[jax.Array, "n act_dim"]:
    """Actions from standard normal `noise`."""
    return gaussian.mean + jnp.exp(gaussian.log_std) * noise


def mode(gaussian: DiagonalGaussian) -> Float[jax.Array, "n act_dim"]:
    """The most likely actions: the mean."""
    return gaussian.mean


def fisher_metric(
    gaussian: DiagonalGaussian, tangent: DiagonalGaussian
) -> DiagonalGaussian:
    """The mean Fisher matrix over rows, in (mean, log_std), times a tangent.

    It is diag(1 / std², 2) for each sample and dimension; the mean over n samples
    gives each row of `mean` the weight 1/n and a shared row of log_std the weight 1.
    """
    return DiagonalGaussian(
        mean=tangent.mean * jnp.exp(-2.0 * gaussian.log_std) / gaussian.mean.shape[0],
        log_std=2.0 * tangent.log_std / gaussian.log_std.shape[0],
    )
