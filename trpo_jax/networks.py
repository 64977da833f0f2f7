"""Actor and critic: multilayer perceptrons.

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
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from trpo.architecture import PLAIN, Architecture
from trpo.heads import Head
from trpo_jax import distributions, mlp
from trpo_jax.autodiff import Linearization
from trpo_jax.chunked import ChunkedPolicy
from trpo_jax.distributions import Distribution
from trpo_jax.encoder import Encoder, encode


Parameters = Any
"""A tree of arrays: {"layers": {0: {"kernel": [in, out], "bias": [out]}, …}, …}."""


class _Network(nnx.Module):
    """Encoders of images, if there are any, and layers."""

    def __init__(
        self,
        obs_dim: int,
        layer_sizes: Sequence[int],
        output_dim: int,
        architecture: Architecture,
    ) -> None:
        self.architecture = architecture
        # The weights are overwritten by `trpo.initialization`'s.
        rngs = nnx.Rngs(0)
        if architecture.images:
            self.encoders = nnx.List([Encoder(image) for image in architecture.images])
        sizes = (architecture.input_dim(obs_dim), *layer_sizes, output_dim)
        pairs = itertools.pairwise(sizes)
        self.layers = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairs])
        if architecture.layer_norm:
            norms = [nnx.LayerNorm(size, rngs=rngs) for size in layer_sizes]
            self.norms = nnx.List(norms)

    def _values(self, obs: jax.Array) -> list[jax.Array]:
        """The input of every layer, and the output [n, outputs] of the last."""
        architecture = self.architecture
        if architecture.images:
            obs = encode(self.encoders, obs, architecture)
        norms = _norms(self.norms) if architecture.layer_norm else ()
        return mlp.forward(_layers(self.layers), obs, architecture.activation, norms)


class Policy(_Network):
    """Observations -> distribution over actions.

    Args:
        obs_dim: Entries of an observation.
        layer_sizes: Units of the hidden layers; empty for a linear policy.
        head: The distribution and its sizes; some have a free log_std.
        architecture: What else it is built of.
    """

    def __init__(
        self,
        obs_dim: int,
        layer_sizes: Sequence[int],
        head: Head,
        architecture: Architecture = PLAIN,
    ) -> None:
        super().__init__(obs_dim, layer_sizes, head.output_dim, architecture)
        self.head = head
        if head.family.free_log_std:
            self.log_std = nnx.Param(jnp.zeros(head.reals))

    def __call__(
        self, obs: Float[jax.Array, "n obs_dim"], mask: jax.Array | None = None
    ) -> Distribution:
        """The distribution at each observation; of options that `mask` allows."""
        log_std = self.log_std[...] if self.head.family.free_log_std else None
        outputs = self._values(obs)[-1]
        return distributions.from_network(self.head, outputs, log_std, mask)

    def features(
        self, obs: Float[jax.Array, "n obs_dim"]
    ) -> Float[jax.Array, "n units"]:
        """Values of the last hidden layer."""
        return self._values(obs)[-2]


class Critic(_Network):
    """Observations -> value.

    Args:
        obs_dim: Entries of an observation.
        layer_sizes: Units of the hidden layers; empty for a linear critic.
        architecture: What else it is built of.
    """

    def __init__(
        self,
        obs_dim: int,
        layer_sizes: Sequence[int],
        architecture: Architecture = PLAIN,
    ) -> None:
        super().__init__(obs_dim, layer_sizes, 1, architecture)

    def __call__(self, obs: Float[jax.Array, "n obs_dim"]) -> Float[jax.Array, "n 1"]:
        """Value of each observation."""
        return self._values(obs)[-1]


class FlatPolicy:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Its Jacobian is written by hand, for the architectures of which `mlp.py` has it.

    Args:
        unravel: Flat parameters -> tree of arrays.
        obs: [n, obs_dim] observations.
        head: Distribution over actions.
        mask: [n, options] 0 where an option can't be taken; None for no mask.
        activation: Of the hidden layers.
    """

    def __init__(
        self,
        unravel: Callable[[jax.Array], Parameters],
        obs: Float[jax.Array, "n obs_dim"],
        head: Head,
        mask: jax.Array | None = None,
        activation: str = "tanh",
    ) -> None:
        self._unravel, self._obs, self._head = unravel, obs, head
        self._mask, self._activation = mask, activation

    def __call__(self, theta: Float[jax.Array, " p"]) -> Distribution:
        """The distribution at each observation."""
        tree = self._unravel(theta)
        layers = mlp.layers_of(tree)
        outputs = mlp.forward(layers, self._obs, self._activation)[-1]
        return distributions.from_network(
            self._head, outputs, tree.get("log_std"), self._mask
        )

    def linearize(self, theta: Float[jax.Array, " p"]) -> Linearization:
        """The same, with its Jacobian at `theta`."""
        tree = self._unravel(theta)
        log_std, layers = tree.get("log_std"), mlp.layers_of(tree)
        outputs, tape = mlp.record(layers, self._obs, self._activation)
        given = (self._head, outputs, log_std, self._mask)
        push_head, pull_head = distributions.jacobian(*given)

        def push(v: jax.Array) -> Distribution:
            tangent = self._unravel(v)
            tangents = mlp.layers_of(tangent)
            d_outputs = mlp.push(layers, tape, tangents, self._activation)
            return push_head(d_outputs, tangent.get("log_std"))

        def pull(u: Distribution) -> jax.Array:
            d_outputs, d_log_std = pull_head(u)
            gradients = mlp.pull(layers, tape, d_outputs, self._activation)
            pulled: Parameters = {
                "layers": {
                    i: {"kernel": layer.weight, "bias": layer.bias}
                    for i, layer in enumerate(gradients)
                }
            }
            if d_log_std is not None:
                pulled["log_std"] = d_log_std
            return ravel_pytree(pulled)[0]

        at = distributions.from_network(*given)
        return Linearization(at, push, pull)


def flat_policy(
    policy: Callable[..., Distribution],
    unravel: Callable[[jax.Array], Parameters],
    obs: Float[jax.Array, "n obs_dim"],
    head: Head,
    mask: jax.Array | None = None,
    architecture: Architecture | None = PLAIN,
    rows: int | None = None,
) -> Callable[[jax.Array], Distribution]:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Args:
        policy: (Parameters, observations, mask) -> distribution.
        unravel: Flat parameters -> tree of arrays.
        obs: [n, obs_dim] observations.
        head: Distribution over actions.
        mask: [n, options] 0 where an option can't be taken; None for no mask.
        architecture: Of the policy; None if it is not a `Policy`.
        rows: At most so many at a time; None for all.

    Returns:
        A `FlatPolicy` where it can be one.
    """
    if rows is not None and len(obs) > rows:

        def policy_at(obs: jax.Array, mask: jax.Array | None) -> Callable:
            return flat_policy(policy, unravel, obs, head, mask, architecture)

        return ChunkedPolicy(policy_at, obs, mask, rows)
    if architecture is not None and architecture.by_hand:
        return FlatPolicy(unravel, obs, head, mask, architecture.activation)
    return lambda theta: policy(unravel(theta), obs, mask)


def _layers(layers: nnx.List) -> list[mlp.Layer]:
    return [mlp.Layer(layer.kernel[...], layer.bias[...]) for layer in layers]


def _norms(norms: nnx.List) -> list[mlp.Layer]:
    return [mlp.Layer(norm.scale[...], norm.bias[...]) for norm in norms]


def as_function(module: nnx.Module, method: str = "__call__") -> Callable[..., Any]:
    """The module as (parameters, *inputs) -> output, without NNX's bookkeeping."""
    graph, _ = nnx.split(module)

    def apply(parameters: Parameters, *inputs: Any) -> Any:
        return getattr(nnx.merge(graph, parameters), method)(*inputs)

    return apply


# Cached, so that agents of equal sizes share one function and one compilation.


@functools.lru_cache(maxsize=256)
def policy_function(
    obs_dim: int,
    layer_sizes: tuple[int, ...],
    head: Head,
    architecture: Architecture = PLAIN,
) -> Callable[..., Distribution]:
    """A policy of these sizes as a pure function of parameters, obs and mask."""
    # Shapes alone: drawing weights that are never used would compile a generator.
    return as_function(
        nnx.eval_shape(lambda: Policy(obs_dim, layer_sizes, head, architecture))
    )


@functools.lru_cache(maxsize=256)
def critic_function(
    obs_dim: int, layer_sizes: tuple[int, ...], architecture: Architecture = PLAIN
) -> Callable[[Parameters, jax.Array], jax.Array]:
    """A critic of these sizes as a pure function."""
    return as_function(
        nnx.eval_shape(lambda: Critic(obs_dim, layer_sizes, architecture))
    )


@functools.lru_cache(maxsize=256)
def features_function(
    obs_dim: int, layer_sizes: tuple[int, ...], head: Head, architecture: Architecture
) -> Callable[[Parameters, jax.Array], jax.Array]:
    """The last hidden layer of a policy of these sizes as a pure function."""
    policy = nnx.eval_shape(lambda: Policy(obs_dim, layer_sizes, head, architecture))
    return as_function(policy, "features")
