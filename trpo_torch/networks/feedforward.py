"""Actor and critic: multilayer perceptrons."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import linear

from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import LAYER_NORM_EPSILON, PLAIN, Architecture
from trpo_torch.distributions import BY_NAME, Distribution
from trpo_torch.networks.encoder import Encoder, encode


# GELU is x times the normal distribution function at x, exactly (by erf).
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "tanh": torch.tanh,
    "relu": functional.relu,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


class Layer(NamedTuple):
    """Weight [out, in] and bias [out] of a layer, or their tangents or gradients."""

    weight: Float[Tensor, "out in_"]
    bias: Float[Tensor, " out"]


def layers_of(arrays: Sequence[Tensor]) -> list[Layer]:
    """Layers from their weights and biases in turn."""
    return [Layer(*pair) for pair in zip(arrays[::2], arrays[1::2], strict=True)]


def forward(
    layers: Sequence[Layer],
    x: Float[Tensor, "n in_"],
    activation: str = "tanh",
    norms: Sequence[Layer] = (),
) -> list[Tensor]:
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
    for i, layer in enumerate(hidden):
        x = linear(x, *layer)
        if norms:
            x = _layer_norm(x, *norms[i])
        x = activate(x)
        inputs.append(x)
    return [*inputs, linear(x, *output)]


def _layer_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return functional.layer_norm(x, shift.shape, scale, shift, LAYER_NORM_EPSILON)


def from_network(
    head: Head,
    outputs: Float[Tensor, "n outputs"],
    log_std: Float[Tensor, " act_dim"] | None,
    mask: Float[Tensor, "n options"] | None = None,
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


class _Network(nn.Module):
    """Encoders of images, if there are any, and layers."""

    encoders: Iterable[Encoder]
    layers: nn.ModuleList
    norms: nn.ModuleList

    def __init__(
        self,
        obs_dim: int,
        layer_sizes: Sequence[int],
        output_dim: int,
        architecture: Architecture,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        if architecture.images:
            self.encoders = nn.ModuleList(map(Encoder, architecture.images))  # pyright: ignore[reportAttributeAccessIssue]
        sizes = (architecture.input_dim(obs_dim), *layer_sizes, output_dim)
        self.layers = nn.ModuleList(nn.Linear(*p) for p in itertools.pairwise(sizes))
        if architecture.layer_norm:
            norms = (nn.LayerNorm(size, LAYER_NORM_EPSILON) for size in layer_sizes)
            self.norms = nn.ModuleList(norms)

    def _values(self, obs: Tensor) -> list[Tensor]:
        """The input of every layer, and the output [n, outputs] of the last."""
        architecture = self.architecture
        if architecture.images:
            obs = encode(self.encoders, obs, architecture)
        norms = _layers(self.norms) if architecture.layer_norm else ()
        return forward(_layers(self.layers), obs, architecture.activation, norms)


class Policy(_Network):
    """Observations -> distribution over actions.

    Args:
        obs_dim: Entries of an observation.
        layer_sizes: Units of the hidden layers; empty for a linear policy.
        head: The distribution and its sizes; some have a free log_std.
        architecture: What else it is built of.
    """

    log_std: nn.Parameter | None

    def __init__(
        self,
        obs_dim: int,
        layer_sizes: Sequence[int],
        head: Head,
        architecture: Architecture = PLAIN,
    ) -> None:
        super().__init__(obs_dim, layer_sizes, head.output_dim, architecture)
        self.head = head
        free = torch.zeros(head.reals) if head.family.free_log_std else None
        self.register_parameter("log_std", None if free is None else nn.Parameter(free))

    def forward(
        self, obs: Float[Tensor, "n obs_dim"], mask: Tensor | None = None
    ) -> Distribution:
        """The distribution at each observation; of options that `mask` allows."""
        outputs = self._values(obs)[-1]
        return from_network(self.head, outputs, self.log_std, mask)

    def features(self, obs: Float[Tensor, "n obs_dim"]) -> Float[Tensor, "n units"]:
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

    def forward(self, obs: Float[Tensor, "n obs_dim"]) -> Float[Tensor, "n 1"]:
        """Value of each observation."""
        return self._values(obs)[-1]


def _layers(layers: nn.ModuleList) -> list[Layer]:
    # From torch's own dictionaries: by `layer.weight`, the look-up takes as long as a
    # forward pass of a few observations. `functional_call` writes to them too.
    tables: list[Any] = [
        layer._parameters for layer in layers._modules.values() if layer
    ]
    return [Layer(table["weight"], table["bias"]) for table in tables]
