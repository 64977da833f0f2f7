"""Regression of a recurrent critic: minibatches are of whole environments."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from trpo.agent.sharding import Environments
from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch, Sequences
from trpo.data.hidden_state import Memory
from trpo_torch.critic.fit import Regression, Samples, ValueFit, descend, summary
from trpo_torch.devices import reduction
from trpo_torch.networks.recurrent import RecurrentCritic


@torch.no_grad()
def fit_recurrent_critic(
    critic: RecurrentCritic,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    orders: np.ndarray | Environments,
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
    critic: RecurrentCritic,
    batch: Batch,
    orders: np.ndarray | Environments,
    options: StepOptions,
) -> Regression:
    """The regression problem that `fit_recurrent_critic` solves."""
    steps, count, _ = batch.obs.obs.shape
    if not isinstance(orders, Environments):
        samples = batch.obs.valid.sum((0, 2)).cpu().numpy()
        orders = Environments(orders, np.arange(count), samples)
    size = options.value_minibatch_size or steps * orders.orders.shape[1]
    return Regression(
        critic,
        lambda parameters, inputs: critic.values(inputs, parameters),
        _minibatches(batch, orders, max(1, size // steps)),
    )


def _minibatches(
    batch: Batch, environments: Environments, size: int
) -> Iterator[Samples]:
    """What this process has of each minibatch; one without a sample is none."""
    orders, here, samples = environments
    shard = reduction.current()
    for visited in (
        order[start : start + size]
        for order in orders
        for start in range(0, len(order), size)
    ):
        total, chosen = samples[visited].sum(), here[visited]
        if total > 0:
            own = torch.as_tensor(chosen[chosen >= 0], device=batch.returns.device)
            part = of_environments(batch, own.long())
            if shard is not None:
                weights = part.inputs.valid.reshape(-1, 1) / float(total)
                part = part._replace(shard=shard._replace(weights=weights))
            yield part


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
