"""Optimisers: the same ten steps, or where they part."""

from collections.abc import Callable, Iterable

import jax
import optax
import torch

from benchmarks.audit.pairs.draws import normal, weights
from benchmarks.audit.pairs.layers import SQUARE_ERROR
from parity_kit import Pair


Parameters = Iterable[torch.Tensor]


def torch_network(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Two layers with tanh between."""
    return torch.tanh(x @ w["first"]) @ w["second"]


def jax_network(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Two layers with tanh between."""
    return jax.numpy.tanh(x @ w["first"]) @ w["second"]


def steps_of(
    make_torch: Callable[[Parameters], torch.optim.Optimizer],
    transformation: optax.GradientTransformation,
) -> Pair:
    """Ten steps of both on the same small network."""
    return Pair(
        torch=torch_network,
        jax=jax_network,
        inputs=normal((8, 4)),
        weights=weights(first=(4, 6), second=(6, 2)),
        loss=SQUARE_ERROR,
        optimizer=(make_torch, transformation),
        steps=10,
    )


def adamw_explicit(parameters: Parameters) -> torch.optim.Optimizer:
    """AdamW with its weight decay stated."""
    return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.05)


optax_adamw_explicit = optax.adamw(1e-2, weight_decay=0.05)
adamw = steps_of(adamw_explicit, optax_adamw_explicit)


def nesterov_torch(parameters: Parameters) -> torch.optim.Optimizer:
    """Momentum by Nesterov."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True)


optax_nesterov = optax.sgd(0.05, momentum=0.9, nesterov=True)
nesterov = steps_of(nesterov_torch, optax_nesterov)


def rmsprop_torch(parameters: Parameters) -> torch.optim.Optimizer:
    """RMSprop with a large epsilon, as an actor-critic uses it."""
    return torch.optim.RMSprop(parameters, lr=6e-3, alpha=0.99, eps=0.01)


optax_rmsprop_outside = optax.rmsprop(6e-3, decay=0.99, eps=0.01, eps_in_sqrt=False)
rmsprop = steps_of(rmsprop_torch, optax_rmsprop_outside)
optax_rmsprop_inside = optax.rmsprop(6e-3, decay=0.99, eps=0.01)
rmsprop_epsilon = steps_of(rmsprop_torch, optax_rmsprop_inside)


class WarmedSGD(torch.optim.SGD):
    """Plain steps whose rate rises in equal parts over four steps."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, lr=0.25)
        for group in self.param_groups:
            group["taken"] = 0  # in the state_dict, as a schedule's own count is

    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step at the present rate; the first has rate zero."""
        for group in self.param_groups:
            group["lr"] = 0.25 * min(1.0, group["taken"] / 4)
            group["taken"] += 1
        super().step()


# A quarter in four parts: optax counts the rate in float32, where these are exact.
optax_warmed = optax.sgd(optax.linear_schedule(0.0, 0.25, 4))
warmed_sgd = steps_of(WarmedSGD, optax_warmed)


class ClippedSGD(torch.optim.SGD):
    """Gradients clipped by PyTorch's `clip_grad_norm_`, then plain steps."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, lr=0.1)

    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step along the clipped gradient."""
        every = [p for group in self.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(every, 0.05)
        super().step()


optax_clipped = optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(0.1))
clipped_norm = steps_of(ClippedSGD, optax_clipped)


def adamw_default(parameters: Parameters) -> torch.optim.Optimizer:
    """AdamW with PyTorch's default weight decay, 0.01."""
    return torch.optim.AdamW(parameters, lr=1e-2)


optax_adamw_default = optax.adamw(1e-2)
adamw_defaults = steps_of(adamw_default, optax_adamw_default)


def amsgrad_torch(parameters: Parameters) -> torch.optim.Optimizer:
    """AMSGrad: the greatest second moment so far, then its bias corrected."""
    return torch.optim.Adam(parameters, lr=1e-2, amsgrad=True)


optax_amsgrad = optax.amsgrad(1e-2)
amsgrad = steps_of(amsgrad_torch, optax_amsgrad)


def damped_torch(parameters: Parameters) -> torch.optim.Optimizer:
    """Momentum whose new gradients weigh a tenth, but for the first."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.9)


optax_momentum = optax.sgd(0.1, momentum=0.9)
damped_momentum = steps_of(damped_torch, optax_momentum)
