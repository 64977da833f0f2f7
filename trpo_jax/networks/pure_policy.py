"""A policy for code of one's own: from raw observations to environments' actions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trpo.data.normalization import ObservationNormalizer
from trpo.spaces.action_heads import Head
from trpo.spaces.spaces import PolicySpec, filled
from trpo_jax.devices.device import matmul_precision
from trpo_jax.networks.feedforward import Parameters


class PolicyParameters(NamedTuple):
    """Arrays of a pure policy.

    Attributes:
        weights: of the network.
        mean: [obs_dim] what is subtracted from observations; None if nothing is.
        std: [obs_dim] what they are divided by; 1 for pixels.
        clip: [obs_dim] bound of what comes of it; infinite for pixels.
    """

    weights: Parameters
    mean: Any = None
    std: Any = None
    clip: Any = None


def parameters_of(
    weights: Parameters, normalizer: ObservationNormalizer | None, dtype: np.dtype
) -> PolicyParameters:
    """A pure policy's arrays, from weights and the statistics of observations."""
    if normalizer is None:
        return PolicyParameters(weights)
    vectors = (jnp.asarray(array, dtype) for array in normalizer.as_vectors())
    return PolicyParameters(weights, *vectors)


def pure_policy(
    network: Callable[..., Any], spec: PolicySpec, precision: str, dtype: np.dtype
) -> Callable[..., Any]:
    """A function of parameters, observations and a key.

    Args:
        network: (weights, observations [B, obs_dim], mask) -> distribution.
        spec: Of the agent.
        precision: Of matrix products.
        dtype: Of the network's arithmetic.
    """

    def policy(
        parameters: PolicyParameters,
        obs: Any,
        key: jax.Array | None = None,
        mask: Any = None,
    ) -> Any:
        """Action of the environment for each observation; the mode without a key."""
        obs = jnp.asarray(obs)
        rows = obs.reshape(-1, spec.obs_dim)
        if parameters.mean is not None:
            rows = (rows - parameters.mean[None]) / parameters.std[None]
            rows = jnp.clip(rows, -parameters.clip[None], parameters.clip[None])
        if mask is not None:
            mask = jnp.asarray(mask, dtype).reshape(len(rows), -1)
        with matmul_precision(precision):
            distribution = network(parameters.weights, rows.astype(dtype), mask)
        if key is None:
            actions = distribution.mode()
        else:
            noise = draw_noise(spec.head, key, (len(rows),), dtype)
            actions = distribution.sample(noise)
        sent = to_environment(spec, actions)
        return sent if obs.ndim > 1 else jax.tree.map(lambda part: part[0], sent)

    return policy


def draw_noise(
    head: Head, key: jax.Array, shape: tuple[int, ...], dtype: Any
) -> jax.Array:
    """Noise [*shape, act_dim] as `Head.draw_noise` makes it, from a key."""
    if head.reals in (0, head.act_dim):
        draw = jax.random.uniform if head.family.discrete else jax.random.normal
        return draw(key, (*shape, head.act_dim), dtype)
    for_reals, for_choices = jax.random.split(key)
    choices = head.act_dim - head.reals
    normal = jax.random.normal(for_reals, (*shape, head.reals), dtype)
    uniform = jax.random.uniform(for_choices, (*shape, choices), dtype)
    return jnp.concatenate([normal, uniform], axis=-1)


def to_environment(spec: PolicySpec, actions: jax.Array) -> Any:
    """Sampled actions [B, act_dim] as the environment takes them, [B, …].

    `PolicySpec.to_environment` of `trpo.spaces.spaces` on the device: counted from the
    space's start, squashed or else clipped to its bounds, in its shape and dtype; of a
    Dict or Tuple, one of such arrays.
    """
    if spec.structure is not None:
        parts = (to_environment(part, actions[:, c]) for c, part in spec.parts)
        return filled(spec.structure, parts)
    low, high = spec.action_low[None], spec.action_high[None]
    if spec.action_start is not None:
        # Not as floats, which have no digits left for a start of 2**30.
        actions = actions.astype(int) + spec.action_start[None]
    if spec.head.family.squashed:
        share = 0.5 * (jnp.tanh(actions) + 1.0)
        actions = (1.0 - share) * low + share * high
    clipped = jnp.clip(actions, low, high)
    # Without 64-bit mode there is no int64, which Gymnasium's Discrete is of.
    dtype = jax.dtypes.canonicalize_dtype(spec.action_dtype)
    return clipped.astype(dtype).reshape(-1, *spec.action_shape)
