"""A transformer's block in PyTorch and in Flax: causal attention, a map, probes.

python -m parity_kit examples.parity_transformer:pair
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import Tensor, nn

from parity_kit import Pair, probe


WIDTH, HEADS, LENGTH = 8, 2, 5


class TorchBlock(nn.Module):
    """Attention and an MLP, each normalised before and added to what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width]."""
        y = self.norm1(x)
        # True is hidden in PyTorch.
        ahead = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        attended, _ = self.attention(y, y, y, attn_mask=ahead, need_weights=False)
        x = probe("attended", x + attended)
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class FlaxBlock(nnx.Module):
    """The same in Flax, with PyTorch's epsilon and GELU."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        # Without dropout Flax takes an attention whose softmax is in float32.
        self.attention = nnx.MultiHeadAttention(
            HEADS, WIDTH, decode=False, dropout_rate=0.1, deterministic=True, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, length, width]."""
        # True is seen in Flax.
        seen = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
        attended = self.attention(self.norm1(x), mask=seen)
        x = probe("attended", x + attended)
        return x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=False))


def inputs(seed: int) -> tuple[np.ndarray]:
    """A batch of sequences."""
    return (np.random.default_rng(seed).standard_normal((2, LENGTH, WIDTH)),)


def torch_loss(output: Tensor, x: Tensor) -> Tensor:
    """Distance from a constant that no symmetry cancels."""
    return (output - 1.0).square().mean()


def jax_loss(output: jax.Array, x: jax.Array) -> jax.Array:
    """Distance from a constant that no symmetry cancels."""
    return jnp.square(output - 1.0).mean()


pair = Pair(
    torch=TorchBlock,
    jax=FlaxBlock,
    inputs=inputs,
    weights="infer",
    loss=(torch_loss, jax_loss),
)
