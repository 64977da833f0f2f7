"""Actor and critic: multilayer perceptrons with tanh hidden layers."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trpo.heads import Head
from trpo_torch import distributions, mlp
from trpo_torch.autodiff import Linearization
from trpo_torch.distributions import Distribution


class Policy(nn.Module):
    """Observations -> distribution over actions.

    Args:
        obs_dim: Entries of an observation.
        layer_sizes: Units of the hidden layers; empty for a linear policy.
        head: The distribution and its sizes; some have a free log_std.
    """

    log_std: nn.Parameter | None

    def __init__(self, obs_dim: int, layer_sizes: Sequence[int], head: Head) -> None:
        super().__init__()
        self.head = head
        free = torch.zeros(head.reals) if head.family.free_log_std else None
        self.register_parameter("log_std", None if free is None else nn.Parameter(free))
        self.layers = _linear_layers((obs_dim, *layer_sizes, head.output_dim))

    def forward(
        self, obs: Float[Tensor, "n obs_dim"], mask: Tensor | None = None
    ) -> Distribution:
        """The distribution at each observation; of options that `mask` allows."""
        outputs = mlp.forward(_layers(self.layers), obs)[-1]
        return distributions.from_network(self.head, outputs, self.log_std, mask)


class Critic(nn.Module):
    """Observations -> value.

    Args:
        obs_dim: Entries of an observation.
        layer_sizes: Units of the hidden layers; empty for a linear critic.
    """

    def __init__(self, obs_dim: int, layer_sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = _linear_layers((obs_dim, *layer_sizes, 1))

    def forward(self, obs: Float[Tensor, "n obs_dim"]) -> Float[Tensor, "n 1"]:
        """Value of each observation."""
        return mlp.forward(_layers(self.layers), obs)[-1]


class FlatPolicy:
    """A policy as a function of its flat parameters [p], at fixed observations.

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
        self._shapes = [parameter.shape for parameter in policy.parameters()]
        self._obs = obs

    def __call__(self, theta: Float[Tensor, " p"]) -> Distribution:
        """The distribution at each observation."""
        log_std, layers = self._unflatten(theta)
        outputs = mlp.forward(layers, self._obs)[-1]
        return distributions.from_network(self._head, outputs, log_std, self._mask)

    def linearize(self, theta: Float[Tensor, " p"]) -> Linearization:
        """The same, with its Jacobian at `theta`."""
        log_std, layers = self._unflatten(theta.detach())
        *inputs, outputs = mlp.forward(layers, self._obs)
        given = (self._head, outputs, log_std, self._mask)
        push_head, pull_head = distributions.jacobian(*given)

        def push(v: Tensor) -> Distribution:
            d_log_std, tangents = self._unflatten(v)
            return push_head(mlp.push(layers, inputs, tangents), d_log_std)

        def pull(u: Distribution) -> Tensor:
            flat = torch.empty_like(theta)
            into, gradients = self._unflatten(flat)
            d_outputs, d_log_std = pull_head(u)
            if into is not None:
                into.copy_(d_log_std)
            mlp.pull(layers, inputs, d_outputs, gradients)
            return flat

        at = distributions.from_network(*given)
        return Linearization(at, push, pull)

    def _unflatten(self, flat: Tensor) -> tuple[Tensor | None, list[mlp.Layer]]:
        """log_std, if there is one, and layers, as views of a vector [p]."""
        pieces = flat.split([shape.numel() for shape in self._shapes])
        views = [p.view(s) for p, s in zip(pieces, self._shapes, strict=True)]
        log_std = views.pop(0) if self._head.family.free_log_std else None
        return log_std, mlp.layers_of(views)


def _linear_layers(sizes: Sequence[int]) -> nn.ModuleList:
    pairs = itertools.pairwise(sizes)
    return nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairs)


def _layers(layers: nn.ModuleList) -> list[mlp.Layer]:
    # From torch's own dictionaries: by `layer.weight`, the look-up takes as long as a
    # forward pass of a few observations. `functional_call` writes to them too.
    tables: list[Any] = [
        layer._parameters for layer in layers._modules.values() if layer
    ]
    return [mlp.Layer(table["weight"], table["bias"]) for table in tables]
