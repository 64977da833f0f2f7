"""Normalising layers: epsilons, and statistics in use."""

import jax
import jax.numpy as jnp
import optax
import torch
from flax import nnx

from benchmarks.audit.pairs.draws import normal
from parity_kit import Pair


def torch_ramp_error(output: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
    """Mean square of the distance from a fixed cosine over all elements."""
    ramp = torch.cos(torch.arange(output.numel(), dtype=output.dtype))
    return ((output.reshape(-1) - ramp) ** 2).mean()


def jax_ramp_error(output: jax.Array, *inputs: jax.Array) -> jax.Array:
    """Mean square of the distance from a fixed cosine over all elements."""
    ramp = jnp.cos(jnp.arange(output.size, dtype=output.dtype))
    return ((output.reshape(-1) - ramp) ** 2).mean()


def sgd(parameters: object) -> torch.optim.Optimizer:
    """Plain gradient steps."""
    return torch.optim.SGD(parameters, lr=0.1)  # pyright: ignore[reportArgumentType]


RAMP_ERROR = (torch_ramp_error, jax_ramp_error)
SCALE_AND_BIAS = {"weight": "scale", "bias": "bias"}
RUNNING = {"running_mean": "mean", "running_var": "var"}
optax_sgd = optax.sgd(0.1)

torch_layer_norm = torch.nn.LayerNorm(12)
nnx_layer_norm = nnx.LayerNorm(12, epsilon=1e-5, rngs=nnx.Rngs(0))
layer_norm = Pair(
    torch=torch_layer_norm,
    jax=nnx_layer_norm,
    inputs=normal((8, 12)),
    weights=SCALE_AND_BIAS,
    loss=RAMP_ERROR,
    optimizer=(sgd, optax_sgd),
    steps=5,
)

nnx_layer_norm_default = nnx.LayerNorm(12, rngs=nnx.Rngs(0))
layer_norm_defaults = Pair(
    torch=torch_layer_norm,
    jax=nnx_layer_norm_default,
    inputs=normal((8, 12)),
    weights=SCALE_AND_BIAS,
    loss=RAMP_ERROR,
)

torch_rms_norm = torch.nn.RMSNorm(10, eps=1e-6)
nnx_rms_norm = nnx.RMSNorm(10, rngs=nnx.Rngs(0))
rms_norm = Pair(
    torch=torch_rms_norm,
    jax=nnx_rms_norm,
    inputs=normal((6, 10)),
    weights={"weight": "scale"},
    loss=RAMP_ERROR,
)

torch_rms_norm_default = torch.nn.RMSNorm(10)
rms_norm_defaults = Pair(
    torch=torch_rms_norm_default,
    jax=nnx_rms_norm,
    inputs=normal((6, 10)),
    weights={"weight": "scale"},
    loss=RAMP_ERROR,
)


class ChannelsLastGroupNorm(torch.nn.Module):
    """PyTorch's group norm, channels first inside, with channels last outside."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.GroupNorm(2, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images, channels last."""
        # Contiguous: PyTorch 2.13 crashes in the backward pass of a group norm over
        # a channels-last view that needs no gradient itself.
        images = x.permute(0, 3, 1, 2).contiguous()
        return self.norm(images).permute(0, 2, 3, 1)


torch_group_norm = ChannelsLastGroupNorm()
nnx_group_norm = nnx.GroupNorm(6, num_groups=2, epsilon=1e-5, rngs=nnx.Rngs(0))
group_norm = Pair(
    torch=torch_group_norm,
    jax=nnx_group_norm,
    inputs=normal((2, 3, 3, 6)),
    weights={"norm.weight": "scale", "norm.bias": "bias"},
    loss=RAMP_ERROR,
)

torch_batch_norm_eval = torch.nn.BatchNorm1d(4).eval()
nnx_batch_norm_eval = nnx.BatchNorm(
    4, momentum=0.9, use_running_average=True, rngs=nnx.Rngs(0)
)
batch_norm_eval = Pair(
    torch=torch_batch_norm_eval,
    jax=nnx_batch_norm_eval,
    inputs=normal((5, 4)),
    weights=SCALE_AND_BIAS | RUNNING,
    loss=RAMP_ERROR,
    optimizer=(sgd, optax_sgd),
    steps=3,
)

torch_batch_norm = torch.nn.BatchNorm1d(4)
nnx_batch_norm_default = nnx.BatchNorm(4, rngs=nnx.Rngs(0))
batch_norm_defaults = Pair(
    torch=torch_batch_norm,
    jax=nnx_batch_norm_default,
    inputs=normal((7, 4)),
    weights=SCALE_AND_BIAS | RUNNING,
    loss=RAMP_ERROR,
    optimizer=(sgd, optax_sgd),
    steps=3,
)

nnx_batch_norm = nnx.BatchNorm(4, momentum=0.9, rngs=nnx.Rngs(0))
batch_norm_running_variance = Pair(
    torch=torch_batch_norm,
    jax=nnx_batch_norm,
    inputs=normal((7, 4)),
    weights=SCALE_AND_BIAS | RUNNING,
    loss=RAMP_ERROR,
    optimizer=(sgd, optax_sgd),
    steps=3,
)
