"""Modules that keep an average they do not use: what differs is the state alone."""

import jax
import jax.numpy as jnp
import optax
import torch
from flax import nnx

from benchmarks.audit.pairs.draws import normal
from benchmarks.audit.pairs.layers import SQUARE_ERROR
from parity_kit import Pair


DECAY = 0.9


class TorchAverage(torch.nn.Module):
    """A linear layer that keeps an average of its outputs, corrected for its start."""

    corrected = True
    hidden: torch.Tensor
    count: torch.Tensor
    average: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        for name, shape in (("hidden", 3), ("count", 1), ("average", 3)):
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs; the average takes their mean in."""
        y = self.linear(x)
        with torch.no_grad():
            self.count += 1
            self.hidden.copy_(DECAY * self.hidden + (1 - DECAY) * y.mean(0))
            start = 1 - DECAY**self.count if self.corrected else 1.0
            self.average.copy_(self.hidden / start)
        return y


class TorchPlainAverage(TorchAverage):
    """The same, its start not corrected for."""

    corrected = False


class NnxAverage(nnx.Module):
    """The same in Flax, corrected for its start, as Haiku's moving average is."""

    def __init__(self) -> None:
        self.linear = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        self.hidden = nnx.BatchStat(jnp.zeros(3))
        self.count = nnx.BatchStat(jnp.zeros(1))
        self.average = nnx.BatchStat(jnp.zeros(3))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs; the average takes their mean in."""
        y = self.linear(x)
        mean = jax.lax.stop_gradient(y.mean(0))
        self.count[...] = self.count[...] + 1
        self.hidden[...] = DECAY * self.hidden[...] + (1 - DECAY) * mean
        self.average[...] = self.hidden[...] / (1 - DECAY ** self.count[...])
        return y


def sgd(parameters: object) -> torch.optim.Optimizer:
    """Plain gradient steps."""
    return torch.optim.SGD(parameters, lr=0.1)  # pyright: ignore[reportArgumentType]


optax_sgd = optax.sgd(0.1)
AVERAGE = {
    "linear.weight": ("linear.kernel", "transposed"),
    "linear.bias": "linear.bias",
    "hidden": "hidden",
    "count": "count",
    "average": "average",
}
corrected_average = Pair(
    torch=TorchAverage,
    jax=NnxAverage,
    inputs=normal((6, 4)),
    weights=AVERAGE,
    loss=SQUARE_ERROR,
    optimizer=(sgd, optax_sgd),
    steps=3,
)
average_start = Pair(
    torch=TorchPlainAverage,
    jax=NnxAverage,
    inputs=normal((6, 4)),
    weights=AVERAGE,
    loss=SQUARE_ERROR,
    optimizer=(sgd, optax_sgd),
    steps=3,
)


class TorchNorm(torch.nn.Module):
    """Batch norm by hand, PyTorch's way: a tenth of the new mean is taken in."""

    running: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(4))
        self.register_buffer("running", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs by the batch's own mean; the running mean moves."""
        mean = x.mean(0)
        with torch.no_grad():
            self.running.copy_((1 - 0.1) * self.running + 0.1 * mean)
        return (x - mean) * self.scale


class NnxNorm(nnx.Module):
    """Batch norm by hand, Keras's way with PyTorch's number: a tenth is kept."""

    def __init__(self) -> None:
        self.scale = nnx.Param(jnp.ones(4))
        self.running = nnx.BatchStat(jnp.zeros(4))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs by the batch's own mean; the running mean moves."""
        mean = x.mean(0)
        self.running[...] = 0.1 * self.running[...] + (1 - 0.1) * mean
        return (x - mean) * self.scale[...]


reversed_momentum = Pair(
    torch=TorchNorm,
    jax=NnxNorm,
    inputs=normal((6, 4)),
    weights={"scale": "scale", "running": "running"},
    loss=SQUARE_ERROR,
    optimizer=(sgd, optax_sgd),
    steps=3,
)
