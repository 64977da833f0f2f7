"""Running statistics and advantages as pure functions, for compiled training.

The same formulas as in `trpo.data.normalization` and `trpo.data.advantages`, which the
host's loop uses for either backend, in JAX's default precision: float64 in 64-bit mode,
as there, otherwise float32. `test_compiled_training` of the parity suite compares the
two.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trpo.config.run import SMALLEST_RADIUS_SHARE
from trpo.data.normalization import VARIANCE_EPSILON


class Moments(NamedTuple):
    """Mean and population variance of all vectors seen so far.

    Attributes:
        count: [] vectors seen.
        mean: [size] their mean.
        squared_deviations: [size] sum of their squared deviations from it.
    """

    count: Any
    mean: Any
    squared_deviations: Any


class Advantages(NamedTuple):
    """Advantages [T, B] and the critic's regression targets, `returns` [T, B]."""

    advantages: jax.Array
    returns: jax.Array


def no_moments(size: int) -> Moments:
    """Moments [size] before anything was seen."""
    zeros = jnp.zeros(size, jnp.result_type(float))
    return Moments(jnp.zeros((), zeros.dtype), zeros, zeros)


def add(moments: Moments, vectors: jax.Array) -> Moments:
    """The moments with `vectors` [N, size] added; Chan et al. 1983, eq. 2.1."""
    vectors = vectors.astype(moments.mean.dtype)
    count, mean = vectors.shape[0], vectors.mean(axis=0)
    squared_deviations = ((vectors - mean[None]) ** 2).sum(axis=0)
    total, delta = moments.count + count, mean - moments.mean
    return Moments(
        count=total,
        mean=moments.mean + delta * (count / total),
        squared_deviations=moments.squared_deviations
        + squared_deviations
        + delta**2 * (moments.count * count / total),
    )


def standard_deviation(moments: Moments) -> jax.Array:
    """[size] population standard deviation; 1 before anything was seen."""
    seen = moments.count > 0
    variance = moments.squared_deviations / jnp.where(seen, moments.count, 1.0)
    return jnp.where(seen, jnp.sqrt(variance + VARIANCE_EPSILON), 1.0)


def normalize(moments: Moments, obs: jax.Array, clip: float) -> jax.Array:
    """(obs - mean) / standard deviation, within [-clip, clip]; `obs` [..., size]."""
    shape = (*(1,) * (obs.ndim - 1), -1)
    mean, deviation = (
        vector.reshape(shape) for vector in (moments.mean, standard_deviation(moments))
    )
    scaled = (obs - mean) / deviation
    return jnp.clip(scaled, -clip, clip)


def discounted_returns(
    before: jax.Array, rewards: jax.Array, done: jax.Array, gamma: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The running discounted return, whose standard deviation scales rewards.

    Args:
        before: [B] discounted return of each open episode.
        rewards: [T, B] raw rewards.
        done: [T, B] whether an episode ended with the step.
        gamma: [] discount factor.

    Returns:
        [B] the same after the rollout, and [T, B] its value at each step.
    """

    def one(discounted: jax.Array, at: tuple) -> tuple[jax.Array, jax.Array]:
        reward, ended = at
        discounted = gamma * discounted + reward
        return jnp.where(ended, 0.0, discounted), discounted

    return jax.lax.scan(one, before, (rewards, done))


def generalized_advantages(
    rewards: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    gamma: jax.Array,
    gae_lambda: jax.Array,
) -> Advantages:
    """Advantages and returns of B environments over T steps, all [T, B].

    Schulman et al. 2016, eqs. 10 and 16, as `generalized_advantages` of the host:
    a terminal state has value 0, a truncated episode is worth what the critic says of
    its final observation, and neither leaks into the next episode.
    """
    going_on = ~(terminated | truncated)
    deltas = rewards + gamma * jnp.where(terminated, 0.0, next_values) - values
    weights = gamma * gae_lambda * going_on

    def one(carry: jax.Array, at: tuple) -> tuple[jax.Array, jax.Array]:
        delta, weight = at
        carry = delta + weight * carry
        return carry, carry

    start = jnp.zeros_like(deltas[0])
    _, advantages = jax.lax.scan(one, start, (deltas, weights), reverse=True)
    return Advantages(advantages, advantages + values)


def normalize_advantages(advantages: jax.Array) -> jax.Array:
    """Advantages with mean 0 and population standard deviation 1; zero if all equal."""
    centred = advantages - advantages.mean()
    largest = jnp.abs(centred).max()
    # The host's 1e-12 is far below what is rounding error in float32.
    wide = advantages.dtype == jnp.float64
    tolerance = 1e-12 if wide else 10.0 * float(jnp.finfo(advantages.dtype).eps)
    varied = largest > tolerance * jnp.abs(advantages).max()
    # Squares of huge advantages would overflow.
    scaled = centred / jnp.where(varied, largest, 1.0)
    deviation = jnp.sqrt((scaled**2).mean())
    return jnp.where(varied, scaled / jnp.where(varied, deviation, 1.0), 0.0)


def radius_share(advantage_std: jax.Array, full_radius_std: float) -> jax.Array:
    """Share [] of the radius, as `trpo.config.run.TrainConfig.rates_at` has it."""
    if full_radius_std == 0.0:
        return jnp.ones_like(advantage_std)
    share = (advantage_std / full_radius_std) ** 2
    return jnp.clip(share, SMALLEST_RADIUS_SHARE, 1.0)
