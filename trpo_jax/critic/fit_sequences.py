"""Regression of a recurrent critic: minibatches are of whole environments."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import Int

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch, Sequences
from trpo.data.hidden_state import Memory
from trpo_jax.critic.fit import Regression, Samples, ValueFit, descend, summary
from trpo_jax.networks.feedforward import Parameters


def fit_recurrent_critic(
    critic: Callable[[Parameters, Sequences], tuple[jax.Array, jax.Array]],
    parameters: Parameters,
    optimizer: optax.GradientTransformation,
    optimizer_state: Any,
    batch: Batch,
    orders: Int[jax.Array, "epochs b"],
    options: StepOptions,
    numbers: StepNumbers,
) -> tuple[Parameters, Any, ValueFit]:
    """Fit the critic to the returns of a batch of sequences.

    Args:
        critic: (Parameters, sequences) -> values [T, B, 1] and the last state.
        parameters: The critic's.
        optimizer: Of the critic's parameters.
        optimizer_state: The optimiser's.
        batch: Samples; its `obs` are `Sequences`.
        orders: [epochs, B] order in which each epoch visits the environments.
        options: Say the samples of a gradient step: of as many environments as have no
            more, and of one at least; an epoch's last step takes the rest.
        numbers: Of this update.

    Returns:
        New parameters, new optimiser state, and the fit's numbers.
    """
    sequences = batch.obs
    regression = sequence_regression(critic, batch, orders, options)
    parameters, optimizer_state, loss = descend(
        regression, parameters, optimizer, optimizer_state, numbers.max_grad_norm
    )
    errors = (batch.returns - critic(parameters, sequences)[0]).reshape(-1, 1)
    returns = batch.returns.reshape(-1, 1)
    if sequences.rows is not None:
        errors, returns = errors[sequences.rows], returns[sequences.rows]
    fit = summary(loss, errors, returns, batch.weights)
    return parameters, optimizer_state, fit


def sequence_regression(
    critic: Callable[[Parameters, Sequences], tuple[jax.Array, jax.Array]],
    batch: Batch,
    orders: Int[jax.Array, "epochs b"],
    options: StepOptions,
) -> Regression:
    """The regression problem that `fit_recurrent_critic` solves."""
    steps, count, _ = batch.obs.obs.shape
    return Regression(
        lambda parameters, sequences: critic(parameters, sequences)[0],
        lambda chosen: of_environments(batch, chosen),
        max(1, (options.value_minibatch_size or steps * count) // steps),
        orders,
    )


def of_environments(batch: Batch, chosen: Int[jax.Array, " b"]) -> Samples:
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
