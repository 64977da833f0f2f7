"""Actor and critic: multilayer perceptrons with tanh hidden layers."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trpo_torch.distributions import DiagonalGaussian, clamp_log_std


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
        return DiagonalGaussian(
            mean=_mlp(self.layers, obs), log_std=clamp_log_std(self.log_std)[None]
        )


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
        return _mlp(self.layers, obs)


def _linear_layers(sizes: Sequence[int]) -> nn.ModuleList:
    pairs = itertools.pairwise(sizes)
    return nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairs)


def _mlp(layers: nn.ModuleList, x: Tensor) -> Tensor:
    *hidden, output = layers
    for layer in hidden:
        x = torch.tanh(layer(x))
    return output(x)
