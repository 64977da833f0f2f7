"""One policy network in both frameworks, in whole TRPO updates of both backends.

trpo parity --policy-network-pair examples.parity_policy_networks:pair
"""

import jax
import numpy as np
import torch
from flax import nnx
from torch import nn

from parity_kit import Pair


class TorchNetwork(nn.Module):
    """Observations [N, 3] -> 2 outputs, by two layers with a skip around the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.second = nn.Linear(8, 8)
        self.last = nn.Linear(8, 2)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Outputs of a batch."""
        hidden = torch.tanh(self.first(obs))
        return self.last(hidden + torch.tanh(self.second(hidden)))


class JaxNetwork(nnx.Module):
    """The same."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.second = nnx.Linear(8, 8, rngs=rngs)
        self.last = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Outputs of a batch."""
        hidden = jax.numpy.tanh(self.first(obs))
        return self.last(hidden + jax.numpy.tanh(self.second(hidden)))


def observations(seed: int) -> tuple[np.ndarray]:
    """A batch of them."""
    return (np.random.default_rng(seed).standard_normal((24, 3)),)


WEIGHTS = {
    f"{layer}.{torch_name}": (f"{layer}.{jax_name}", layout)
    for layer in ("first", "second", "last")
    for torch_name, jax_name, layout in (
        ("weight", "kernel", "transposed"),
        ("bias", "bias", "same"),
    )
}
pair = Pair(
    torch=TorchNetwork, jax=JaxNetwork, inputs=observations, weights=WEIGHTS
)  # fmt: skip
