"""Critic regression: minibatch gradient descent on the squared error of returns."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from trpo.types import Batch


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
        critic: Observations [n, obs_dim] -> values [n, 1].
        optimizer: Of the critic's parameters.
        batch: Samples.
        orders: [epochs, N] order in which each epoch visits the samples.
        minibatch_size: Samples per gradient step; an epoch's last step takes the rest.
        max_grad_norm: Gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)).
    """
    parameters = list(critic.parameters())
    losses = []
    for order in orders:
        indices = torch.as_tensor(order, device=batch.obs.device)
        for chosen in indices.split(minibatch_size):
            # The whole batch needs no gathering: its order can't matter.
            whole = len(chosen) == len(batch.obs)
            obs = batch.obs if whole else batch.obs[chosen]
            returns = batch.returns if whole else batch.returns[chosen]
            loss = torch.mean((critic(obs) - returns) ** 2)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
            optimizer.step()
            losses.append(loss.detach())
    with torch.no_grad():
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
