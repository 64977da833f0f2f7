"""An MLP in PyTorch and in Flax, proved equal: the map of weights is proposed.

python -m parity_kit examples.parity_mlp:pair
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from torch import Tensor, nn

from parity_kit import Pair


class TorchMLP(nn.Module):
    """One hidden layer, normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.norm = nn.LayerNorm(16)
        self.fc2 = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [batch, 2]."""
        return self.fc2(nn.functional.gelu(self.norm(self.fc1(x))))


class FlaxMLP(nnx.Module):
    """The same: with PyTorch's epsilon, and its exact GELU."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.fc1 = nnx.Linear(6, 16, rngs=rngs)
        self.norm = nnx.LayerNorm(16, epsilon=1e-5, rngs=rngs)
        self.fc2 = nnx.Linear(16, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs [batch, 2]."""
        return self.fc2(nnx.gelu(self.norm(self.fc1(x)), approximate=False))


def inputs(seed: int) -> tuple[np.ndarray]:
    """A batch."""
    return (np.random.default_rng(seed).standard_normal((8, 6)),)


def torch_loss(output: Tensor, x: Tensor) -> Tensor:
    """Distance from the first two inputs."""
    return (output - x[:, :2]).square().mean()


def jax_loss(output: jax.Array, x: jax.Array) -> jax.Array:
    """Distance from the first two inputs."""
    return jnp.square(output - x[:, :2]).mean()


def torch_adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
    """PyTorch's Adam."""
    return torch.optim.Adam(parameters, lr=1e-3)


pair = Pair(
    torch=TorchMLP,
    jax=FlaxMLP,
    inputs=inputs,
    weights="infer",
    loss=(torch_loss, jax_loss),
    optimizer=(torch_adam, optax.adam(1e-3)),
    steps=5,
)
