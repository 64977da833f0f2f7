"""Actor and critic: multilayer perceptrons with tanh hidden layers."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trpo_torch import mlp
from trpo_torch.distributions import DiagonalGaussian, clamp_log_std, clamp_slope


class Linearization(NamedTuple):
    """A policy at its parameters, and the Jacobian J of its outputs there.

    Attributes:
        gaussian: the distribution at each sample.
        push: v [p] -> J v, shaped like `gaussian`.
        pull: u, shaped like `gaussian` -> J'u [p].
    """

    gaussian: DiagonalGaussian
    push: Callable[[Tensor], DiagonalGaussian]
    pull: Callable[[DiagonalGaussian], Tensor]


class GaussianPolicy(nn.Module):
    """Observations -> diagonal Gaussian over actions, with a free log_std.

    Args:
        obs_dim: Entries of an observation.
        layer_sizes: Units of the hidden layers; empty for a linear policy.
        act_dim: Entries of an action.
    """

    def __init__(self, obs_dim: int, layer_sizes: Sequence[int], act_dim: int) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.zeros(act_dim))
        self.layers = _linear_layers((obs_dim, *layer_sizes, act_dim))

    def forward(self, obs: Float[Tensor, "n obs_dim"]) -> DiagonalGaussian:
        """Mean [n, act_dim] and clamped log_std [1, act_dim], the same for each row."""
        return _gaussian(self.log_std, _layers(self.layers), obs)


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
    """

    def __init__(self, policy: GaussianPolicy, obs: Float[Tensor, "n obs_dim"]) -> None:
        self._shapes = [parameter.shape for parameter in policy.parameters()]
        self._obs = obs

    def __call__(self, theta: Float[Tensor, " p"]) -> DiagonalGaussian:
        """The distribution at each observation."""
        return _gaussian(*self._unflatten(theta), self._obs)

    def linearize(self, theta: Float[Tensor, " p"]) -> Linearization:
        """The same, with its Jacobian at `theta`."""
        log_std, layers = self._unflatten(theta.detach())
        *inputs, mean = mlp.forward(layers, self._obs)
        slope = clamp_slope(log_std)

        def push(v: Tensor) -> DiagonalGaussian:
            d_log_std, tangents = self._unflatten(v)
            d_mean = mlp.push(layers, inputs, tangents)
            return DiagonalGaussian(d_mean, (slope * d_log_std)[None])

        def pull(u: DiagonalGaussian) -> Tensor:
            flat = torch.empty_like(theta)
            d_log_std, gradients = self._unflatten(flat)
            d_log_std.copy_(slope * u.log_std.sum(0))
            mlp.pull(layers, inputs, u.mean, gradients)
            return flat

        gaussian = DiagonalGaussian(mean, clamp_log_std(log_std)[None])
        return Linearization(gaussian, push, pull)

    def _unflatten(self, flat: Tensor) -> tuple[Tensor, list[mlp.Layer]]:
        """log_std and layers, as views of a vector [p]."""
        pieces = flat.split([shape.numel() for shape in self._shapes])
        views = [p.view(s) for p, s in zip(pieces, self._shapes, strict=True)]
        return views[0], mlp.layers_of(views[1:])


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


def _gaussian(
    log_std: Tensor, layers: Sequence[mlp.Layer], obs: Tensor
) -> DiagonalGaussian:
    mean = mlp.forward(layers, obs)[-1]
    return DiagonalGaussian(mean, clamp_log_std(log_std)[None])
