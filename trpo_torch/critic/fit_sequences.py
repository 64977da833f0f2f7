"""Regression of a recurrent critic: minibatches are of whole environments."""

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch, Sequences
from trpo.data.hidden_state import Memory
from trpo_torch.critic.fit import Regression, Samples, ValueFit, descend, summary
from trpo_torch.networks.recurrent import RecurrentCritic


@torch.no_grad()
def fit_recurrent_critic(
    critic: RecurrentCritic,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    orders: np.ndarray,
    options: StepOptions,
    numbers: StepNumbers,
) -> ValueFit:
    """Fit `critic` to the returns of a batch of sequences, in place.

    Args:
        critic: The module, whose parameters are changed.
        optimizer: Of the critic's parameters.
        batch: Samples; its `obs` are `Sequences`.
        orders: [epochs, B] order in which each epoch visits the environments.
        options: Say the samples of a gradient step: of as many environments as have no
            more, and of one at least; an epoch's last step takes the rest.
        numbers: Of this update.
    """
    sequences = batch.obs
    regression = sequence_regression(critic, batch, orders, options)
    losses = descend(regression, optimizer, numbers.max_grad_norm)
    errors = (batch.returns - critic.values(sequences)).reshape(-1, 1)
    returns = batch.returns.reshape(-1, 1)
    if sequences.rows is not None:
        errors, returns = errors[sequences.rows], returns[sequences.rows]
    return summary(losses, errors, returns)


def sequence_regression(
    critic: RecurrentCritic, batch: Batch, orders: np.ndarray, options: StepOptions
) -> Regression:
    """The regression problem that `fit_recurrent_critic` solves."""
    sequences = batch.obs
    steps, count, _ = sequences.obs.shape
    envs = max(1, (options.value_minibatch_size or steps * count) // steps)
    visited = torch.as_tensor(orders, device=sequences.obs.device).long()
    return Regression(
        critic,
        lambda parameters, inputs: critic.values(inputs, parameters),
        (of_environments(batch, c) for order in visited for c in order.split(envs)),
    )


def of_environments(batch: Batch, chosen: Int[Tensor, " b"]) -> Samples:
    """The sequences and returns of some environments, without `rows`."""
    sequences = batch.obs
    some = Sequences(
        sequences.obs[:, chosen],
        sequences.starts[:, chosen],
        sequences.valid[:, chosen],
        None,
        Memory(*(states[chosen] for states in sequences.memory)),
    )
    return Samples(some, batch.returns[:, chosen], some.valid)
