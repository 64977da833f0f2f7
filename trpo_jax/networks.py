"""Actor and critic: multilayer perceptrons with tanh hidden layers.

Modules are defined in Flax NNX and leave it at `as_function`: from there on, a network
is a pure function of a tree of arrays.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from trpo_jax import mlp
from trpo_jax.distributions import DiagonalGaussian, clamp_log_std, clamp_slope


Parameters = Any
"""A tree of arrays: {"layers": {0: {"kernel": [in, out], "bias": [out]}, …}, …}."""


class Linearization(NamedTuple):
    """A policy at its parameters, and the Jacobian J of its outputs there.

    Attributes:
        gaussian: the distribution at each sample.
        push: v [p] -> J v, shaped like `gaussian`.
        pull: u, shaped like `gaussian` -> J'u [p].
    """

    gaussian: DiagonalGaussian
    push: Callable[[jax.Array], DiagonalGaussian]
    pull: Callable[[DiagonalGaussian], jax.Array]


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
        return _gaussian(self.log_std[...], _layers(self.layers), obs)


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
        return mlp.forward(_layers(self.layers), obs)[-1]


class FlatPolicy:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Args:
        unravel: Flat parameters -> tree of arrays.
        obs: [n, obs_dim] observations.
    """

    def __init__(
        self,
        unravel: Callable[[jax.Array], Parameters],
        obs: Float[jax.Array, "n obs_dim"],
    ) -> None:
        self._unravel, self._obs = unravel, obs

    def __call__(self, theta: Float[jax.Array, " p"]) -> DiagonalGaussian:
        """The distribution at each observation."""
        tree = self._unravel(theta)
        return _gaussian(tree["log_std"], mlp.layers_of(tree), self._obs)

    def linearize(self, theta: Float[jax.Array, " p"]) -> Linearization:
        """The same, with its Jacobian at `theta`."""
        tree = self._unravel(theta)
        log_std, layers = tree["log_std"], mlp.layers_of(tree)
        mean, tape = mlp.record(layers, self._obs)
        slope = clamp_slope(log_std)

        def push(v: jax.Array) -> DiagonalGaussian:
            tangent = self._unravel(v)
            d_mean = mlp.push(layers, tape, mlp.layers_of(tangent))
            return DiagonalGaussian(d_mean, (slope * tangent["log_std"])[None])

        def pull(u: DiagonalGaussian) -> jax.Array:
            gradients = mlp.pull(layers, tape, u.mean)
            pulled = {
                "layers": {
                    i: {"kernel": layer.weight, "bias": layer.bias}
                    for i, layer in enumerate(gradients)
                },
                "log_std": slope * u.log_std.sum(0),
            }
            return ravel_pytree(pulled)[0]

        gaussian = DiagonalGaussian(mean, clamp_log_std(log_std)[None])
        return Linearization(gaussian, push, pull)


def _linear_layers(sizes: Sequence[int]) -> nnx.List:
    # The weights are overwritten by `trpo.initialization`'s.
    rngs = nnx.Rngs(0)
    pairs = itertools.pairwise(sizes)
    return nnx.List(
        [nnx.Linear(fan_in, fan_out, rngs=rngs) for fan_in, fan_out in pairs]
    )


def _layers(layers: nnx.List) -> list[mlp.Layer]:
    return [mlp.Layer(layer.kernel[...], layer.bias[...]) for layer in layers]


def _gaussian(
    log_std: jax.Array, layers: Sequence[mlp.Layer], obs: jax.Array
) -> DiagonalGaussian:
    mean = mlp.forward(layers, obs)[-1]
    return DiagonalGaussian(mean, clamp_log_std(log_std)[None])


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
    # Shapes alone: drawing weights that are never used would compile a generator.
    return as_function(
        nnx.eval_shape(lambda: GaussianPolicy(obs_dim, layer_sizes, act_dim))
    )


@functools.lru_cache(maxsize=256)
def critic_function(
    obs_dim: int, layer_sizes: tuple[int, ...]
) -> Callable[[Parameters, jax.Array], jax.Array]:
    """A critic of these sizes as a pure function."""
    return as_function(nnx.eval_shape(lambda: Critic(obs_dim, layer_sizes)))
