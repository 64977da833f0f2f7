"""Convolutions, pooling, resizing: layouts, flipped kernels, padding that counts."""

from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import nnx

from benchmarks.audit.pairs.draws import normal, weights
from benchmarks.audit.pairs.layers import SQUARE_ERROR
from parity_kit import Pair


class TorchNetwork(torch.nn.Module):
    """A convolution, its features flattened channels first, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 2)
        self.fc = torch.nn.Linear(100, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs of images that come channels last."""
        features = torch.relu(self.conv(x.permute(0, 3, 1, 2)))
        return self.fc(features.flatten(1))


class NnxNetwork(nnx.Module):
    """The same in Flax; its features are flattened channels first as well."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 4, (2, 2), padding="VALID", rngs=rngs)
        self.fc = nnx.Linear(100, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs of images that come channels last."""
        features = nnx.relu(self.conv(x)).transpose(0, 3, 1, 2)
        return self.fc(features.reshape(len(x), -1))


class NnxChannelsLastNetwork(NnxNetwork):
    """As one writes it in Flax: features flattened as they lie, channels last."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs of images that come channels last."""
        return self.fc(nnx.relu(self.conv(x)).reshape(len(x), -1))


KERNELS = {
    "conv.weight": ("conv.kernel", "convolution"),
    "conv.bias": "conv.bias",
    "fc.weight": ("fc.kernel", "transposed"),
    "fc.bias": "fc.bias",
}
conv_and_linear = Pair(
    torch=TorchNetwork,
    jax=NnxNetwork,
    inputs=normal((2, 6, 6, 3)),
    weights=KERNELS,
    loss=SQUARE_ERROR,
)
flatten_order = Pair(
    torch=TorchNetwork,
    jax=NnxChannelsLastNetwork,
    inputs=normal((2, 6, 6, 3)),
    weights=KERNELS,
    loss=SQUARE_ERROR,
)


PADDING: Any = ((1, 1), (1, 1))  # Flax takes it, and annotates a string


def torch_pool(x: torch.Tensor) -> torch.Tensor:
    """Means over windows, where padding does not count."""
    f = torch.nn.functional
    return f.avg_pool2d(x.permute(0, 3, 1, 2), 2, 1, 1, count_include_pad=False)


def jax_pool(x: jax.Array) -> jax.Array:
    """Means over windows, where padding does not count."""
    pooled = nnx.avg_pool(x, (2, 2), (1, 1), PADDING, count_include_pad=False)
    return pooled.transpose(0, 3, 1, 2)


def jax_pool_default(x: jax.Array) -> jax.Array:
    """Means over windows by Flax's default, where padding counts."""
    return nnx.avg_pool(x, (2, 2), (1, 1), PADDING).transpose(0, 3, 1, 2)


pool = Pair(torch=torch_pool, jax=jax_pool, inputs=normal((1, 4, 4, 2)))
pool_padding = Pair(torch=torch_pool, jax=jax_pool_default, inputs=normal((1, 4, 4, 2)))


def torch_resize(x: torch.Tensor) -> torch.Tensor:
    """An image made smaller, smoothed first (off by default in PyTorch)."""
    return torch.nn.functional.interpolate(
        x, size=(4, 4), mode="bilinear", align_corners=False, antialias=True
    )


def jax_resize(x: jax.Array) -> jax.Array:
    """An image made smaller, smoothed first (on by default in JAX)."""
    return jax.image.resize(x, (*x.shape[:2], 4, 4), "bilinear")


resize = Pair(torch=torch_resize, jax=jax_resize, inputs=normal((1, 2, 8, 8)))


def torch_transposed(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """PyTorch's transposed convolution; the kernel is (in, out, height, width)."""
    y = torch.nn.functional.conv_transpose2d(x.permute(0, 3, 1, 2), w["kernel"])
    return y.permute(0, 2, 3, 1)


def jax_transposed(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """JAX's, by its default: the kernel is not turned over."""
    kernel = jnp.transpose(w["kernel"], (2, 3, 0, 1))
    return jax.lax.conv_transpose(x, kernel, (1, 1), "VALID")


transposed_convolution = Pair(
    torch=torch_transposed,
    jax=jax_transposed,
    inputs=normal((1, 4, 4, 3)),
    weights=weights(kernel=(3, 4, 2, 2)),
    loss=SQUARE_ERROR,
)
