"""Critic regression: minibatch gradient descent on the squared error of returns."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from trpo.types import Batch
from trpo_torch import mlp
from trpo_torch.networks import Critic


class ValueFit(NamedTuple):
    """Outcome of the critic's fit.

    Attributes:
        loss: mean over all gradient steps of the minibatch's mean squared error.
        mae: mean absolute error over the batch after the fit.
        explained_variance: 1 - var(returns - values) / var(returns) after the fit.
    """

    loss: Tensor
    mae: Tensor
    explained_variance: Tensor


@torch.no_grad()
def fit_critic(
    critic: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    orders: np.ndarray,
    *,
    minibatch_size: int,
    max_grad_norm: float,
) -> ValueFit:
    """Fit `critic` to the batch's returns, in place.

    Args:
        critic: The module, whose parameters are changed.
        optimizer: Of the critic's parameters.
        batch: Samples.
        orders: [epochs, N] order in which each epoch visits the samples.
        minibatch_size: Samples per gradient step; an epoch's last step takes the rest.
        max_grad_norm: Gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)).
    """
    losses = descend(
        lambda gradient: _squared_error(critic, gradient),
        list(critic.parameters()),
        optimizer,
        _minibatches(batch, orders, minibatch_size),
        max_grad_norm=max_grad_norm,
    )
    errors = batch.returns - critic(batch.obs)
    return summary(losses, errors, batch.returns)


@torch.no_grad()
def descend(
    build_loss: Callable[[Tensor], Callable[..., Tensor]],
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    minibatches: Iterable[tuple[Any, ...]],
    *,
    max_grad_norm: float,
) -> Float[Tensor, " steps"]:
    """Minibatch gradient descent, in place.

    Args:
        build_loss: [p] vector -> a function of a minibatch's parts that returns its
            loss and writes the loss's gradient to that vector.
        parameters: Of the optimiser.
        optimizer: Of the parameters.
        minibatches: The parts of each step's.
        max_grad_norm: As `fit_critic`'s.

    Returns:
        The loss before each step.
    """
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    for parameter, piece in zip(parameters, _views(flat, parameters), strict=True):
        parameter.grad = piece
    loss_and_gradient = build_loss(flat)
    losses = []
    for minibatch in minibatches:
        losses.append(loss_and_gradient(*minibatch))
        clip_by_norm(flat, max_grad_norm)
        optimizer.step()
    for parameter in parameters:
        parameter.grad = None
    return torch.stack(losses)


def summary(
    losses: Tensor, errors: Float[Tensor, "n 1"], returns: Float[Tensor, "n 1"]
) -> ValueFit:
    """A fit's numbers, from the loss of each step and the errors after the last."""
    return ValueFit(
        loss=losses.mean(),
        mae=errors.abs().mean(),
        explained_variance=explained_variance(errors, returns),
    )


def explained_variance(errors: Tensor, returns: Tensor) -> Tensor:
    """1 - var(errors) / var(returns), population variances; 0 for constant returns."""
    variance = returns.var(correction=0)
    safe = torch.where(variance > 0, variance, 1.0)
    return torch.where(variance > 0, 1.0 - errors.var(correction=0) / safe, 0.0)


def clip_by_norm(gradient: Float[Tensor, " p"], max_norm: float) -> None:
    """Scale a flat gradient in place by min(1, max_norm / (norm + 1e-6)).

    As torch.nn.utils.clip_grad_norm_ does, in a third of its time on a CPU.
    """
    norm = torch.sqrt((gradient * gradient).sum())
    gradient *= (max_norm / (norm + 1e-6)).clamp(max=1.0)


def _automatic(
    loss: Callable[..., Tensor],
    parameters: Sequence[Tensor],
    gradient: Float[Tensor, " p"],
) -> Callable[..., Tensor]:
    """`loss`, detached, that also writes its gradient to `gradient`."""

    def loss_and_gradient(*minibatch: Any) -> Tensor:
        with torch.enable_grad():
            found = loss(*minibatch)
            pieces = torch.autograd.grad(
                found, parameters, allow_unused=True, materialize_grads=True
            )
        torch.cat([piece.reshape(-1) for piece in pieces], out=gradient)
        return found.detach()

    return loss_and_gradient


def _minibatches(
    batch: Batch, orders: np.ndarray, minibatch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Observations and returns of each step."""
    # The whole batch needs no gathering: its order can't matter.
    whole = minibatch_size >= len(batch.obs)
    for order in torch.as_tensor(orders, device=batch.obs.device):
        # Once an epoch: gathering for each step takes longer.
        obs = batch.obs if whole else batch.obs[order]
        returns = batch.returns if whole else batch.returns[order]
        yield from zip(
            obs.split(minibatch_size), returns.split(minibatch_size), strict=True
        )


def _squared_error(
    critic: nn.Module, gradient: Float[Tensor, " p"]
) -> Callable[[Tensor, Tensor], Tensor]:
    """(obs, returns) -> mean squared error, whose gradient goes to `gradient`."""
    parameters = list(critic.parameters())
    if not (isinstance(critic, Critic) and critic.architecture.by_hand):
        return _automatic(
            lambda obs, returns: torch.mean((critic(obs) - returns) ** 2),
            parameters,
            gradient,
        )
    layers = mlp.layers_of([parameter.detach() for parameter in parameters])
    gradients = mlp.layers_of(_views(gradient, parameters))
    activation = critic.architecture.activation

    @torch.no_grad()
    def by_hand(obs: Tensor, returns: Tensor) -> Tensor:
        *inputs, values = mlp.forward(layers, obs, activation)
        errors = values - returns
        cotangent = errors * (2.0 / len(errors))
        mlp.pull(layers, inputs, cotangent, gradients, activation)
        return torch.mean(errors**2)

    return by_hand


def _views(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Pieces of a vector, shaped like other tensors."""
    pieces = flat.split([tensor.numel() for tensor in like])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, like, strict=True)]
