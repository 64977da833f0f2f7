"""Actor and critic: multilayer perceptrons."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from trpo.architecture import LAYER_NORM_EPSILON, PLAIN, Architecture
from trpo.heads import Head
from trpo_torch import distributions, mlp
from trpo_torch.autodiff import Linearization
from trpo_torch.chunked import ChunkedPolicy
from trpo_torch.distributions import Distribution
from trpo_torch.encoder import Encoder, encode


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
        return mlp.forward(_layers(self.layers), obs, architecture.activation, norms)


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
        return distributions.from_network(self.head, outputs, self.log_std, mask)

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


class FlatPolicy:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Its Jacobian is written by hand, for the architectures of which `mlp.py` has it.

    Args:
        policy: Module whose sizes it has; its weights are left alone.
        obs: [n, obs_dim] observations.
        mask: [n, options] 0 where an option can't be taken; None for no mask.
    """

    def __init__(
        self,
        policy: Policy,
        obs: Float[Tensor, "n obs_dim"],
        mask: Tensor | None = None,
    ) -> None:
        self._head, self._mask = policy.head, mask
        self._activation = policy.architecture.activation
        self._shapes = [parameter.shape for parameter in policy.parameters()]
        self._obs = obs

    def __call__(self, theta: Float[Tensor, " p"]) -> Distribution:
        """The distribution at each observation."""
        log_std, layers = self._unflatten(theta)
        outputs = mlp.forward(layers, self._obs, self._activation)[-1]
        return distributions.from_network(self._head, outputs, log_std, self._mask)

    def linearize(self, theta: Float[Tensor, " p"]) -> Linearization:
        """The same, with its Jacobian at `theta`."""
        log_std, layers = self._unflatten(theta.detach())
        *inputs, outputs = mlp.forward(layers, self._obs, self._activation)
        given = (self._head, outputs, log_std, self._mask)
        push_head, pull_head = distributions.jacobian(*given)

        def push(v: Tensor) -> Distribution:
            d_log_std, tangents = self._unflatten(v)
            d_outputs = mlp.push(layers, inputs, tangents, self._activation)
            return push_head(d_outputs, d_log_std)

        def pull(u: Distribution) -> Tensor:
            flat = torch.empty_like(theta)
            into, gradients = self._unflatten(flat)
            d_outputs, d_log_std = pull_head(u)
            if into is not None:
                into.copy_(d_log_std)
            mlp.pull(layers, inputs, d_outputs, gradients, self._activation)
            return flat

        at = distributions.from_network(*given)
        return Linearization(at, push, pull)

    def _unflatten(self, flat: Tensor) -> tuple[Tensor | None, list[mlp.Layer]]:
        """log_std, if there is one, and layers, as views of a vector [p]."""
        pieces = flat.split([shape.numel() for shape in self._shapes])
        views = [p.view(s) for p, s in zip(pieces, self._shapes, strict=True)]
        log_std = views.pop(0) if self._head.family.free_log_std else None
        return log_std, mlp.layers_of(views)


def flat_policy(
    policy: nn.Module,
    obs: Float[Tensor, "n obs_dim"],
    mask: Tensor | None = None,
    rows: int | None = None,
) -> Callable[[Tensor], Distribution]:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Args:
        policy: A `Policy`, or any module that is called alike; its weights are left
            alone.
        obs: [n, obs_dim] observations.
        mask: [n, options] 0 where an option can't be taken; None for no mask.
        rows: At most so many at a time; None for all.

    Returns:
        A `FlatPolicy` where it can be one.
    """
    if rows is not None and len(obs) > rows:
        return ChunkedPolicy(functools.partial(flat_policy, policy), obs, mask, rows)
    if isinstance(policy, Policy) and policy.architecture.by_hand:
        return FlatPolicy(policy, obs, mask)
    shapes = {name: p.shape for name, p in policy.named_parameters()}

    def apply(theta: Tensor) -> Distribution:
        pieces = theta.split([shape.numel() for shape in shapes.values()])
        named = {
            name: piece.view(shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }
        return functional_call(policy, named, (obs, mask))

    return apply


def _layers(layers: nn.ModuleList) -> list[mlp.Layer]:
    # From torch's own dictionaries: by `layer.weight`, the look-up takes as long as a
    # forward pass of a few observations. `functional_call` writes to them too.
    tables: list[Any] = [
        layer._parameters for layer in layers._modules.values() if layer
    ]
    return [mlp.Layer(table["weight"], table["bias"]) for table in tables]
