"""Layers and activations, and what their initial weights are scaled by."""

import equinox
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

from benchmarks.audit.pairs.draws import normal, weights
from parity_kit import Pair


def torch_square_error(output: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
    """Mean square of the distance of each output from one."""
    return ((output - 1.0) ** 2).mean()


def jax_square_error(output: jax.Array, *inputs: jax.Array) -> jax.Array:
    """Mean square of the distance of each output from one."""
    return ((output - 1.0) ** 2).mean()


def adam(parameters: object) -> torch.optim.Optimizer:
    """Adam with its defaults."""
    return torch.optim.Adam(parameters, lr=1e-3)  # pyright: ignore[reportArgumentType]


SQUARE_ERROR = (torch_square_error, jax_square_error)
optax_adam = optax.adam(1e-3)

torch_linear = torch.nn.Linear(3, 4)
nnx_linear = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
linear = Pair(
    torch=torch_linear,
    jax=nnx_linear,
    inputs=normal((5, 3)),
    weights={"weight": ("kernel", "transposed"), "bias": "bias"},
    loss=SQUARE_ERROR,
    optimizer=(adam, optax_adam),
    steps=10,
)


class LinenMLP(linen.Module):
    """Two dense layers with tanh between."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs of a batch."""
        hidden = jnp.tanh(linen.Dense(7)(x))
        return linen.Dense(2)(hidden)


torch_mlp = torch.nn.Sequential(
    torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2)
)
linen_module = LinenMLP()
linen_mlp = (linen_module, linen_module.init(jax.random.key(0), jnp.ones((1, 5))))
mlp_linen = Pair(
    torch=torch_mlp,
    jax=linen_mlp,
    inputs=normal((6, 5)),
    weights="infer",
    loss=SQUARE_ERROR,
    optimizer=(adam, optax_adam),
    steps=5,
)


class EquinoxMLP(equinox.Module):
    """Equinox's network of single vectors, over a batch."""

    mlp: equinox.nn.MLP

    def __init__(self) -> None:
        self.mlp = equinox.nn.MLP(5, 2, 7, 1, jnp.tanh, key=jax.random.key(0))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs of a batch."""
        return jax.vmap(self.mlp)(x)


equinox_mlp = EquinoxMLP()
mlp_equinox = Pair(
    torch=torch_mlp,
    jax=equinox_mlp,
    inputs=normal((6, 5)),
    weights={
        "0.weight": "mlp.layers.0.weight",
        "0.bias": "mlp.layers.0.bias",
        "2.weight": "mlp.layers.1.weight",
        "2.bias": "mlp.layers.1.bias",
    },
    loss=SQUARE_ERROR,
)


def torch_activations(x: torch.Tensor) -> torch.Tensor:
    """Seven activations of the same input, stacked."""
    f = torch.nn.functional
    kinds = [f.mish, f.selu, f.celu, f.hardswish, f.softsign, f.silu, f.leaky_relu]
    return torch.stack([kind(x) for kind in kinds])


def jax_activations(x: jax.Array) -> jax.Array:
    """Seven activations of the same input, stacked."""
    f = jax.nn
    kinds = [f.mish, f.selu, f.celu, f.hard_swish, f.soft_sign, f.silu, f.leaky_relu]
    return jnp.stack([kind(x) for kind in kinds])


activations = Pair(torch=torch_activations, jax=jax_activations, inputs=normal((4, 9)))


def torch_gated(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """A gated unit with the exact gelu, PyTorch's default."""
    return torch.nn.functional.gelu(x @ w["gate"]) * (x @ w["up"])


def jax_gated(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """A gated unit with JAX's default gelu, which is the tanh approximation."""
    return jax.nn.gelu(x @ w["gate"]) * (x @ w["up"])


gelu_defaults = Pair(
    torch=torch_gated,
    jax=jax_gated,
    inputs=normal((4, 6)),
    weights=weights(gate=(6, 8), up=(6, 8)),
    loss=SQUARE_ERROR,
)


def uniform(seed: int) -> tuple[np.ndarray, ...]:
    """Uniform draws away from both ends."""
    return (np.random.default_rng(seed).uniform(0.05, 0.95, (6, 4)),)


LOWER, UPPER = 0.02275013194817921, 0.9772498680518208  # normal beyond -2, within 2


def torch_initial(u: torch.Tensor) -> torch.Tensor:
    """A normal cut at two, times the wanted deviation, as `trunc_normal_` does."""
    cut = torch.erfinv(2 * (LOWER + u * (UPPER - LOWER)) - 1) * 2**0.5
    return cut * (1 / 6) ** 0.5


def jax_initial(u: jax.Array) -> jax.Array:
    """The same, divided by the deviation that the cut leaves: `lecun_normal`."""
    cut = jax.lax.erf_inv(2 * (LOWER + u * (UPPER - LOWER)) - 1) * 2**0.5
    return cut * (1 / 6) ** 0.5 / 0.87962566103423978


initial_scale = Pair(torch=torch_initial, jax=jax_initial, inputs=uniform)
