"""Gradients at kinks and through values that should be held still."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.audit.pairs.draws import normal, weights
from benchmarks.audit.pairs.layers import SQUARE_ERROR
from parity_kit import Pair


def torch_surrogate(
    w: dict[str, torch.Tensor], x: torch.Tensor, advantage: torch.Tensor
) -> torch.Tensor:
    """The clipped surrogate at the first step: every ratio is one, both arms tie."""
    score = x @ w["kernel"]
    ratio = torch.exp(score - score.detach())
    return torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)


def jax_surrogate(
    w: dict[str, jax.Array], x: jax.Array, advantage: jax.Array
) -> jax.Array:
    """The clipped surrogate at the first step: every ratio is one, both arms tie."""
    score = x @ w["kernel"]
    ratio = jnp.exp(score - jax.lax.stop_gradient(score))
    return jnp.minimum(ratio * advantage, ratio.clip(0.8, 1.2) * advantage)


clipped_surrogate = Pair(
    torch=torch_surrogate,
    jax=jax_surrogate,
    inputs=normal((6, 4), (6, 2)),
    weights=weights(kernel=(4, 2)),
    loss=SQUARE_ERROR,
)


def torch_straight(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Values rounded to eighths, with the gradient of the identity."""
    y = torch.tanh(x @ w["kernel"])
    return y + (torch.round(y * 8) / 8 - y).detach()


def jax_straight(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Values rounded to eighths, with the gradient of the identity."""
    y = jnp.tanh(x @ w["kernel"])
    return y + jax.lax.stop_gradient(jnp.round(y * 8) / 8 - y)


straight_through = Pair(
    torch=torch_straight,
    jax=jax_straight,
    inputs=normal((6, 4)),
    weights=weights(kernel=(4, 2)),
    loss=SQUARE_ERROR,
)


def torch_distances(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """All distances between rows; those of a row from itself are zero."""
    y = x @ w["kernel"]
    return torch.linalg.vector_norm(y[:, None] - y[None, :], dim=-1)


def jax_distances(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """All distances between rows; the gradient at zero is not a number."""
    y = x @ w["kernel"]
    return jnp.linalg.norm(y[:, None] - y[None, :], axis=-1)


zero_norm = Pair(
    torch=torch_distances,
    jax=jax_distances,
    inputs=normal((4, 3)),
    weights=weights(kernel=(3, 5)),
    loss=SQUARE_ERROR,
)


def tokens(seed: int) -> tuple[np.ndarray, ...]:
    """Tokens of two sentences that end in padding (zero)."""
    drawn = np.random.default_rng(seed).integers(1, 6, (2, 7))
    drawn[:, 5:] = 0
    return (drawn,)


def torch_embedding(w: dict[str, torch.Tensor], places: torch.Tensor) -> torch.Tensor:
    """Rows of a table; the row of padding gets no gradient."""
    return torch.nn.functional.embedding(places, w["table"], padding_idx=0)


def jax_embedding(w: dict[str, jax.Array], places: jax.Array) -> jax.Array:
    """Rows of a table, all alike."""
    return w["table"][places]


padding_row = Pair(
    torch=torch_embedding,
    jax=jax_embedding,
    inputs=tokens,
    weights=weights(table=(6, 3)),
    loss=SQUARE_ERROR,
)


def torch_hinge(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The part of a log ratio above zero; at the first step all are zero."""
    score = x @ w["kernel"]
    return torch.clamp(score - score.detach(), min=0.0) + score


def jax_hinge(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """The part of a log ratio above zero, by `maximum`: half a gradient at a tie."""
    score = x @ w["kernel"]
    return jnp.maximum(score - jax.lax.stop_gradient(score), 0.0) + score


clamp_tie = Pair(
    torch=torch_hinge,
    jax=jax_hinge,
    inputs=normal((6, 4)),
    weights=weights(kernel=(4, 2)),
    loss=SQUARE_ERROR,
)


def torch_values(
    w: dict[str, torch.Tensor], now: torch.Tensor, later: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values, and their targets held still."""
    return now @ w["kernel"], (0.5 + 0.9 * (later @ w["kernel"])).detach()


def jax_values(
    w: dict[str, jax.Array], now: jax.Array, later: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Values, and their targets, through which a gradient flows."""
    return now @ w["kernel"], 0.5 + 0.9 * (later @ w["kernel"])


def torch_temporal(output: tuple, *inputs: torch.Tensor) -> torch.Tensor:
    """Mean square of the temporal difference."""
    return ((output[0] - output[1]) ** 2).mean()


def jax_temporal(output: tuple, *inputs: jax.Array) -> jax.Array:
    """Mean square of the temporal difference."""
    return ((output[0] - output[1]) ** 2).mean()


moving_target = Pair(
    torch=torch_values,
    jax=jax_values,
    inputs=normal((6, 4), (6, 4)),
    weights=weights(kernel=(4, 1)),
    loss=(torch_temporal, jax_temporal),
)
