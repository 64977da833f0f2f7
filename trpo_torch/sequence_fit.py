"""Regression of a recurrent critic: minibatches are of whole environments."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trpo.sequences import Memory, Sequences
from trpo.types import Batch
from trpo_torch.recurrent import RecurrentCritic
from trpo_torch.value_update import ValueFit, _automatic, descend, summary


def fit_recurrent_critic(
    critic: RecurrentCritic,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    orders: np.ndarray,
    *,
    minibatch_size: int,
    max_grad_norm: float,
) -> ValueFit:
    """Fit `critic` to the returns of a batch of sequences, in place.

    Args:
        critic: The module, whose parameters are changed.
        optimizer: Of the critic's parameters.
        batch: Samples; its `obs` are `Sequences`.
        orders: [epochs, B] order in which each epoch visits the environments.
        minibatch_size: Samples per gradient step: of as many environments as have no
            more, and of one at least; an epoch's last step takes the rest.
        max_grad_norm: Gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)).
    """
    sequences, parameters = batch.obs, list(critic.parameters())
    envs = max(1, minibatch_size // len(sequences.obs))
    visited = torch.as_tensor(orders, device=sequences.obs.device).long()

    def loss(chosen: Tensor) -> Tensor:
        some = of_environments(sequences, chosen)
        return mean_squared_error(critic, some, batch.returns[:, chosen])

    losses = descend(
        lambda gradient: _automatic(loss, parameters, gradient),
        parameters,
        optimizer,
        ((chosen,) for order in visited for chosen in order.split(envs)),
        max_grad_norm=max_grad_norm,
    )
    with torch.no_grad():
        errors = (batch.returns - critic.values(sequences)).reshape(-1, 1)
    returns = batch.returns.reshape(-1, 1)
    if sequences.rows is not None:
        errors, returns = errors[sequences.rows], returns[sequences.rows]
    return summary(losses, errors, returns)


def mean_squared_error(
    critic: RecurrentCritic, sequences: Sequences, returns: Float[Tensor, "t b 1"]
) -> Float[Tensor, ""]:
    """Mean over the samples of the critic's squared error; 0 where there are none."""
    errors = sequences.valid * (critic.values(sequences) - returns)
    return (errors**2).sum() / sequences.valid.sum().clamp(min=1.0)


def of_environments(sequences: Sequences, chosen: Int[Tensor, " b"]) -> Sequences:
    """The sequences of some environments, without `rows`."""
    return Sequences(
        sequences.obs[:, chosen],
        sequences.starts[:, chosen],
        sequences.valid[:, chosen],
        None,
        Memory(*(states[chosen] for states in sequences.memory)),
    )
