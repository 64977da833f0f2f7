"""Attention: layouts, masks, rotations, positions, one whole block."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from benchmarks.audit.pairs.draws import normal, weights
from benchmarks.audit.pairs.layers import SQUARE_ERROR, adam, optax_adam
from parity_kit import Pair, probe


LENGTH, WIDTH = 5, 8


def torch_attention(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Causal attention of two heads; PyTorch wants (batch, head, time, width)."""
    q, k, v = (
        (x @ w[name]).unflatten(-1, (2, 4)).transpose(1, 2) for name in ("q", "k", "v")
    )
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).flatten(2)


def jax_attention(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Causal attention of two heads; Flax wants (batch, time, head, width)."""
    q, k, v = ((x @ w[name]).reshape(*x.shape[:2], 2, 4) for name in ("q", "k", "v"))
    mask = linen.make_causal_mask(x[..., 0])
    return linen.dot_product_attention(q, k, v, mask=mask).reshape(x.shape)


causal_attention = Pair(
    torch=torch_attention,
    jax=jax_attention,
    inputs=normal((2, LENGTH, WIDTH)),
    weights=weights(q=(WIDTH, WIDTH), k=(WIDTH, WIDTH), v=(WIDTH, WIDTH)),
    loss=SQUARE_ERROR,
)

ANGLES = np.arange(LENGTH)[:, None] * 100.0 ** (-np.arange(WIDTH // 2) / (WIDTH // 2))


def torch_rotary(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Scores after a rotation of neighbouring elements."""
    cos, sin = (torch.as_tensor(f(ANGLES)).to(x.dtype) for f in (np.cos, np.sin))
    turned = []
    for name in ("q", "k"):
        pairs = probe(name, x @ w[name])
        even, odd = pairs[..., 0::2], pairs[..., 1::2]
        both = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
        turned.append(both.flatten(-2))
    turned[0] = probe("rotated", turned[0])
    return turned[0] @ turned[1].mT


def halves(x: jax.Array) -> jax.Array:
    """A rotation of the first half of the elements against the second."""
    cos, sin = (jnp.asarray(f(ANGLES), x.dtype) for f in (np.cos, np.sin))
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], -1)


def jax_rotary(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Scores after a rotation by halves, the projections as they are."""
    q, k = probe("q", x @ w["q"]), probe("k", x @ w["k"])
    rotated = probe("rotated", halves(q))
    return rotated @ halves(k).swapaxes(-1, -2)


ORDER = np.concatenate([np.arange(0, WIDTH, 2), np.arange(1, WIDTH, 2)])


def torch_rotary_scores(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Scores after a rotation of neighbouring elements."""
    cos, sin = (torch.as_tensor(f(ANGLES)).to(x.dtype) for f in (np.cos, np.sin))
    pairs = torch.stack([x @ w["q"], x @ w["k"]])
    even, odd = pairs[..., 0::2], pairs[..., 1::2]
    turned = torch.cat([even * cos - odd * sin, even * sin + odd * cos], -1)
    return turned[0] @ turned[1].mT


def jax_rotary_scores(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Scores after a rotation by halves, the projections' columns put in order."""
    q, k = x @ w["q"][:, ORDER], x @ w["k"][:, ORDER]
    return halves(q) @ halves(k).swapaxes(-1, -2)


PROJECTIONS = weights(q=(WIDTH, WIDTH), k=(WIDTH, WIDTH))
rotary_layouts = Pair(
    torch=torch_rotary,
    jax=jax_rotary,
    inputs=normal((2, LENGTH, WIDTH)),
    weights=PROJECTIONS,
)
rotary_permuted = Pair(
    torch=torch_rotary_scores,
    jax=jax_rotary_scores,
    inputs=normal((2, LENGTH, WIDTH)),
    weights=PROJECTIONS,
    loss=SQUARE_ERROR,
)


def torch_positions(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """A bias of minus the distance between query and key."""
    places = torch.arange(LENGTH, dtype=x.dtype)
    distance = places[None, :] - places[:, None]
    scores = probe("scores", x @ w["q"] @ x.mT + 0.5 * distance)
    hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ x


def jax_positions(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """A bias by the key's place alone: the same but for a constant in each row."""
    places = jnp.arange(LENGTH, dtype=x.dtype)
    scores = probe("scores", x @ w["q"] @ x.swapaxes(-1, -2) + 0.5 * places[None, :])
    hidden = jnp.triu(jnp.ones((LENGTH, LENGTH), bool), 1)
    return jax.nn.softmax(jnp.where(hidden, -jnp.inf, scores), -1) @ x


alibi_constant = Pair(
    torch=torch_positions,
    jax=jax_positions,
    inputs=normal((2, LENGTH, WIDTH)),
    weights=weights(q=(WIDTH, WIDTH)),
    loss=SQUARE_ERROR,
)


class TorchBlock(torch.nn.Module):
    """A transformer's block, norms first."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(WIDTH)
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.out = torch.nn.Linear(WIDTH, WIDTH)
        self.norm2 = torch.nn.LayerNorm(WIDTH)
        self.up = torch.nn.Linear(WIDTH, 4 * WIDTH)
        self.down = torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's outputs."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 2, 4)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm2(x))))


class NnxBlock(nnx.Module):
    """The same in Flax, with PyTorch's epsilon and the exact gelu."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.norm1 = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.qkv = nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.norm2 = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The block's outputs."""
        split = self.qkv(self.norm1(x)).reshape(*x.shape[:2], 3, 2, 4)
        q, k, v = (split[:, :, part] for part in range(3))
        y = linen.dot_product_attention(q, k, v).reshape(x.shape)
        x = x + self.out(y)
        return x + self.down(jax.nn.gelu(self.up(self.norm2(x)), approximate=False))


transformer_block = Pair(
    torch=TorchBlock,
    jax=NnxBlock,
    inputs=normal((2, LENGTH, WIDTH)),
    weights="infer",
    loss=SQUARE_ERROR,
    optimizer=(adam, optax_adam),
    steps=5,
)
