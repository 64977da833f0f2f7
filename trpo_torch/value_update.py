"""Critic regression: minibatch gradient descent on the squared error of returns."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

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
    parameters = list(critic.parameters())
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    for parameter, piece in zip(parameters, _views(flat, parameters), strict=True):
        parameter.grad = piece
    error_and_gradient = _squared_error(critic, flat)
    # The whole batch needs no gathering: its order can't matter.
    whole = minibatch_size >= len(batch.obs)
    losses = []
    for order in torch.as_tensor(orders, device=batch.obs.device):
        # Once an epoch: gathering for each step takes longer.
        obs = batch.obs if whole else batch.obs[order]
        returns = batch.returns if whole else batch.returns[order]
        minibatches = zip(
            obs.split(minibatch_size), returns.split(minibatch_size), strict=True
        )
        for some_obs, some_returns in minibatches:
            losses.append(error_and_gradient(some_obs, some_returns))
            clip_by_norm(flat, max_grad_norm)
            optimizer.step()
    for parameter in parameters:
        parameter.grad = None
    errors = batch.returns - critic(batch.obs)
    return ValueFit(
        loss=torch.stack(losses).mean(),
        mae=errors.abs().mean(),
        explained_variance=explained_variance(errors, batch.returns),
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


def _squared_error(
    critic: nn.Module, gradient: Float[Tensor, " p"]
) -> Callable[[Tensor, Tensor], Tensor]:
    """(obs, returns) -> mean squared error, whose gradient goes to `gradient`."""
    parameters = list(critic.parameters())
    if not (isinstance(critic, Critic) and critic.architecture.by_hand):

        def automatic(obs: Tensor, returns: Tensor) -> Tensor:
            with torch.enable_grad():
                loss = torch.mean((critic(obs) - returns) ** 2)
                pieces = torch.autograd.grad(
                    loss, parameters, allow_unused=True, materialize_grads=True
                )
            torch.cat([piece.reshape(-1) for piece in pieces], out=gradient)
            return loss.detach()

        return automatic
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
