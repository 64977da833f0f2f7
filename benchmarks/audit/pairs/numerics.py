"""Indices, whole numbers, spreads, sums backwards in time."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.audit.pairs.draws import normal, weights
from benchmarks.audit.pairs.layers import SQUARE_ERROR
from parity_kit import Pair


def rows(seed: int) -> tuple[np.ndarray, ...]:
    """Places in a table of seven rows, some of them behind its end."""
    return (np.random.default_rng(seed).integers(0, 12, 9),)


def torch_lookup(w: dict[str, torch.Tensor], places: torch.Tensor) -> torch.Tensor:
    """Rows of a table, the last for any place behind its end."""
    return w["table"][places.clamp(max=6)]


def jax_lookup(w: dict[str, jax.Array], places: jax.Array) -> jax.Array:
    """Rows of a table: JAX itself takes the last for any place behind its end."""
    return w["table"][places]


def jax_clipped(w: dict[str, jax.Array], places: jax.Array) -> jax.Array:
    """Rows of a table, the last for any place behind its end, said explicitly."""
    return w["table"].at[places].get(mode="clip")


out_of_bounds_clipped = Pair(
    torch=torch_lookup,
    jax=jax_clipped,
    inputs=rows,
    weights=weights(table=(7, 3)),
    loss=SQUARE_ERROR,
)
out_of_bounds = Pair(
    torch=torch_lookup,
    jax=jax_lookup,
    inputs=rows,
    weights=weights(table=(7, 3)),
    loss=SQUARE_ERROR,
)


def torch_advantages(
    rewards: torch.Tensor, values: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    """Generalised advantages by a loop backwards in time."""
    going_on = 1.0 - (ends > 1).to(rewards.dtype)
    later, result = torch.zeros_like(rewards[0]), []
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + 0.99 * going_on[t] * values[t + 1] - values[t]
        later = delta + 0.99 * 0.95 * going_on[t] * later
        result.append(later)
    return torch.stack(result[::-1])


def jax_advantages(rewards: jax.Array, values: jax.Array, ends: jax.Array) -> jax.Array:
    """Generalised advantages by `scan` in reverse."""
    going_on = 1.0 - (ends > 1).astype(rewards.dtype)
    deltas = rewards + 0.99 * going_on * values[1:] - values[:-1]

    def step(later: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple:
        delta, alive = now
        later = delta + 0.99 * 0.95 * alive * later
        return later, later

    start = jnp.zeros_like(rewards[0])
    return jax.lax.scan(step, start, (deltas, going_on), reverse=True)[1]


advantages = Pair(
    torch=torch_advantages,
    jax=jax_advantages,
    inputs=normal((20, 3), (21, 3), (20, 3)),
)


def whole_numbers(seed: int) -> tuple[np.ndarray, ...]:
    """Whole numbers of both signs, and divisors of both signs."""
    random = np.random.default_rng(seed)
    divisors = random.integers(1, 6, 30) * random.choice([-1, 1], 30)
    return random.integers(-40, 40, 30), divisors


def torch_division(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Quotient rounded down, and the remainder with the divisor's sign."""
    return a // b, a % b


def jax_division(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
    """Quotient rounded down, and the remainder with the divisor's sign."""
    return a // b, a % b


integer_division = Pair(torch=torch_division, jax=jax_division, inputs=whole_numbers)


def torch_scaled(x: torch.Tensor) -> torch.Tensor:
    """Columns over their deviation, which PyTorch divides by n - 1."""
    return (x - x.mean(0)) / x.std(0)


def jax_scaled(x: jax.Array) -> jax.Array:
    """Columns over their deviation, which JAX divides by n."""
    return (x - x.mean(0)) / x.std(0)


deviation = Pair(torch=torch_scaled, jax=jax_scaled, inputs=normal((9, 4)))
