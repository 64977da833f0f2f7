"""Actor and critic: multilayer perceptrons.

Modules are defined in Flax NNX and leave it at `as_function`: from there on, a network
is a pure function of a tree of arrays.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import LAYER_NORM_EPSILON, PLAIN, Architecture
from trpo_jax.distributions import BY_NAME, Distribution
from trpo_jax.networks.encoder import Encoder, encode


Parameters = Any
"""A tree of arrays: {"layers": {0: {"kernel": [in, out], "bias": [out]}, …}, …}."""

# GELU is x times the normal distribution function at x, exactly (by erf).
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
}


class Layer(NamedTuple):
    """Weight [in, out] and bias [out] of a layer; or scale and shift [units]."""

    weight: jax.Array
    bias: jax.Array


def forward(
    layers: Sequence[Layer],
    x: Float[jax.Array, "n in_"],
    activation: str = "tanh",
    norms: Sequence[Layer] = (),
) -> list[jax.Array]:
    """The input of every layer, and the output [n, out] of the last.

    Args:
        layers: The network's.
        x: Input of the first.
        activation: Of the hidden layers.
        norms: Scale and shift of each hidden layer's normalisation, if it has one.
    """
    *hidden, output = layers
    activate = ACTIVATIONS[activation]
    inputs = [x]
    for i, (weight, bias) in enumerate(hidden):
        x = x @ weight + bias[None]
        if norms:
            x = _layer_norm(x, *norms[i])
        x = activate(x)
        inputs.append(x)
    return [*inputs, x @ output.weight + output.bias[None]]


def _layer_norm(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    # Not nnx.LayerNorm's default, whose variance is a difference of two means.
    centered = x - x.mean(-1, keepdims=True)
    variance = (centered * centered).mean(-1, keepdims=True)
    scaled = centered / jnp.sqrt(variance + LAYER_NORM_EPSILON) * scale[None]
    return scaled + shift[None]


def from_network(
    head: Head,
    outputs: Float[jax.Array, "n outputs"],
    log_std: Float[jax.Array, " act_dim"] | None,
    mask: Float[jax.Array, "n options"] | None = None,
) -> Distribution:
    """The distribution that a policy's outputs stand for.

    Args:
        head: Distribution and sizes.
        outputs: Of the network.
        log_std: The policy's free one, if `head` has it.
        mask: 0 where an option can't be taken: it has probability and gradient 0, as
            in Huang and Ontañón 2020, "A Closer Look at Invalid Action Masking in
            Policy Gradient Algorithms". None where nothing is forbidden.
    """
    made = BY_NAME[head.distribution].from_network(head, outputs, log_std)
    return made if mask is None else made.masked(head, mask)


class _Network(nnx.Module):
    """Encoders of images, if there are any, and layers."""

    encoders: nnx.List[Any]
    layers: nnx.List[Any]
    norms: nnx.List[Any]

    def __init__(
        self,
        obs_dim: int,
        layer_sizes: Sequence[int],
        output_dim: int,
        architecture: Architecture,
    ) -> None:
        self.architecture = architecture
        # The weights are overwritten by `trpo.spaces.initialization`'s.
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
        return forward(
            kernels_and_biases(self.layers), obs, architecture.activation, norms
        )


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
        return from_network(self.head, outputs, log_std, mask)

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


def kernels_and_biases(layers: Iterable[Any]) -> list[Layer]:
    """The arrays of Flax's linear layers."""
    return [Layer(layer.kernel[...], layer.bias[...]) for layer in layers]


def _norms(norms: Iterable[Any]) -> list[Layer]:
    return [Layer(norm.scale[...], norm.bias[...]) for norm in norms]


def as_function(module: nnx.Module, method: str = "__call__") -> Callable[..., Any]:
    """The module as (parameters, *inputs) -> output, without NNX's bookkeeping.

    Modules of one structure share a function, and so what JAX compiles for it.
    """
    graph, _ = nnx.split(module)
    try:
        return _function_of(graph, method)
    except TypeError:  # An attribute that has no hash, such as a list of numbers.
        return _function_of.__wrapped__(graph, method)


@functools.lru_cache(maxsize=256)
def _function_of(graph: nnx.GraphDef, method: str) -> Callable[..., Any]:
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
