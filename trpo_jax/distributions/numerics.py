"""Functions of one number that float32 alone would compute badly."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.common.gauss_hermite import normal_quadrature


# Below this |argument|, exp's series is more accurate than expm1 and a difference.
SERIES_BOUND = 0.5
# 2/k! for k = 16, ..., 2: exp(t) - 1 - t = t²/2 * (1 + t/3 + t²/12 + …).
SERIES = tuple(2.0 / math.factorial(k) for k in range(16, 1, -1))
# Where a logit changes by no more, log1p of a sum is exact relative to itself.
NEAR = 1.0
# E[f(z)], z standard normal, is near sum(weights * f(nodes)) for a smooth f.
QUADRATURE_NODES, QUADRATURE_WEIGHTS = normal_quadrature(32)
# exp stays finite in float32; probabilities that change by more are 0 anyway.
MAX_LOG_RATIO = 80.0


def expm1_minus_argument(t: Float[jax.Array, "..."]) -> Float[jax.Array, "..."]:
    """exp(t) - 1 - t, by its series near zero."""
    small = jnp.abs(t) < SERIES_BOUND
    # Both branches of `where` are differentiated: keep each finite everywhere.
    near = jnp.where(small, t, 0.0)
    far = jnp.where(small, 1.0, t)
    series = jnp.full_like(t, SERIES[0])
    for coefficient in SERIES[1:]:
        series = series * near + coefficient
    return jnp.where(small, 0.5 * near**2 * series, jnp.expm1(far) - far)


def log_tanh_slope(u: Float[jax.Array, "..."]) -> Float[jax.Array, "..."]:
    """log(1 - tanh(u)²) = 2 (log 2 - u - softplus(-2u)), exact for large |u| too."""
    # For |u|: u and softplus(-2u) cancel where u is far below zero.
    u = jnp.abs(u)
    return 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))


def below_one(noise: Float[jax.Array, "..."]) -> Float[jax.Array, "..."]:
    """Uniform noise in [0, 1), also where rounding to a shorter dtype has made it 1."""
    return jnp.minimum(noise, 1.0 - jnp.finfo(noise.dtype).epsneg)
