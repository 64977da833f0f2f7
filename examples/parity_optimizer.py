"""Weight decay in PyTorch's Adam and in optax: what is the same, and what is not.

python -m parity_kit examples.parity_optimizer:pair
python -m parity_kit examples.parity_optimizer:as_its_name_says    # exits 1
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import Tensor

from parity_kit import Pair


def torch_line(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """A linear function."""
    return x @ weights["slope"] + weights["offset"]


def jax_line(weights: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    """A linear function."""
    return x @ weights["slope"] + weights["offset"]


def torch_loss(output: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean square."""
    return (output - y).square().mean()


def jax_loss(output: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean square."""
    return jnp.square(output - y).mean()


def inputs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and their values."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((20, 3)), rng.standard_normal(20)


def weights(seed: int) -> dict[str, np.ndarray]:
    """Where the optimiser starts."""
    rng = np.random.default_rng([seed, 1])
    return {"slope": rng.standard_normal(3), "offset": rng.standard_normal(())}


def torch_adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
    """PyTorch adds the decay to the gradient, which Adam then divides."""
    return torch.optim.Adam(parameters, lr=0.05, weight_decay=0.1)


# optax's `adamw` takes the decay off the weights themselves.
decayed = optax.adamw(0.05, weight_decay=0.1)
added = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.05))


def of(transformation: optax.GradientTransformation) -> Pair:
    """30 steps of both."""
    return Pair(
        torch=torch_line,
        jax=jax_line,
        inputs=inputs,
        weights=weights,
        loss=(torch_loss, jax_loss),
        optimizer=(torch_adam, transformation),
        steps=30,
    )


pair = of(added)
as_its_name_says = of(decayed)
