"""Actor and critic: multilayer perceptrons with tanh hidden layers.

Modules are defined in Flax NNX and leave it at `as_function`: from there on, a network
is a pure function of a tree of arrays.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from trpo_jax.distributions import DiagonalGaussian, clamp_log_std


Parameters = Any
"""A tree of arrays: {"layers": {0: {"kernel": [in, out], "bias": [out]}, …}, …}."""


class GaussianPolicy(nnx.Module):
    """Observations -> diagonal Gaussian over actions, with a free log_std.

    Args:
        obs_dim: Entries of an observation.
        layer_sizes: Units of the hidden layers; empty for a linear policy.
        act_dim: Entries of an action.
    """

    def __init__(self, obs_dim: int, layer_sizes: Sequence[int], act_dim: int) -> None:
        self.log_std = nnx.Param(jnp.zeros(act_dim))
        self.layers = _linear_layers((obs_dim, *layer_sizes, act_dim))

    def __call__(self, obs: Float[jax.Array, "n obs_dim"]) -> DiagonalGaussian:
        """Mean [n, act_dim] and clamped log_std [1, act_dim], the same for each row."""
        return DiagonalGaussian(
            mean=_mlp(self.layers, obs), log_std=clamp_log_std(self.log_std[...])[None]
        )


class Critic(nnx.Module):
    """Observations -> value.

    Args:
        obs_dim: Entries of an observation.
        layer_sizes: Units of the hidden layers; empty for a linear critic.
    """

    def __init__(self, obs_dim: int, layer_sizes: Sequence[int]) -> None:
        self.layers = _linear_layers((obs_dim, *layer_sizes, 1))

    def __call__(self, obs: Float[jax.Array, "n obs_dim"]) -> Float[jax.Array, "n 1"]:
        """Value of each observation."""
        return _mlp(self.layers, obs)


def _linear_layers(sizes: Sequence[int]) -> nnx.List:
    # The weights are overwritten by `trpo.initialization`'s.
    rngs = nnx.Rngs(0)
    pairs = itertools.pairwise(sizes)
    return nnx.List(
        [nnx.Linear(fan_in, fan_out, rngs=rngs) for fan_in, fan_out in pairs]
    )


def _mlp(layers: nnx.List, x: jax.Array) -> jax.Array:
    *hidden, output = layers
    for layer in hidden:
        x = jnp.tanh(layer(x))
    return output(x)


def as_function(module: nnx.Module) -> Callable[[Parameters, jax.Array], Any]:
    """The module as (parameters, observations) -> output, without NNX's bookkeeping."""
    graph, _ = nnx.split(module)

    def apply(parameters: Parameters, obs: jax.Array) -> Any:
        return nnx.merge(graph, parameters)(obs)

    return apply


# Cached, so that agents of equal sizes share one function and one compilation.


@functools.lru_cache(maxsize=256)
def policy_function(
    obs_dim: int, layer_sizes: tuple[int, ...], act_dim: int
) -> Callable[[Parameters, jax.Array], DiagonalGaussian]:
    """A Gaussian policy of these sizes as a pure function."""
    return as_function(GaussianPolicy(obs_dim, layer_sizes, act_dim))


@functools.lru_cache(maxsize=256)
def critic_function(
    obs_dim: int, layer_sizes: tuple[int, ...]
) -> Callable[[Parameters, jax.Array], jax.Array]:
    """A critic of these sizes as a pure function."""
    return as_function(Critic(obs_dim, layer_sizes))
