"""Regression of a recurrent critic: minibatches are of whole environments."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from trpo.sequences import Memory, Sequences
from trpo.types import Batch
from trpo_jax.networks import Parameters
from trpo_jax.value_update import ValueFit, descend, summary


def fit_recurrent_critic(
    critic: Callable[[Parameters, Sequences], tuple[jax.Array, jax.Array]],
    parameters: Parameters,
    optimizer: optax.GradientTransformation,
    optimizer_state: Any,
    batch: Batch,
    orders: Int[jax.Array, "epochs b"],
    *,
    minibatch_size: int,
    max_grad_norm: float | jax.Array,
) -> tuple[Parameters, Any, ValueFit]:
    """Fit the critic to the returns of a batch of sequences.

    Args:
        critic: (Parameters, sequences) -> values [T, B, 1] and the last state.
        parameters: The critic's.
        optimizer: Of the critic's parameters.
        optimizer_state: The optimiser's.
        batch: Samples; its `obs` are `Sequences`.
        orders: [epochs, B] order in which each epoch visits the environments.
        minibatch_size: Samples per gradient step: of as many environments as have no
            more, and of one at least; an epoch's last step takes the rest.
        max_grad_norm: Gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)).

    Returns:
        New parameters, new optimiser state, and the fit's numbers.
    """
    sequences = batch.obs

    def loss(candidate: Parameters, chosen: jax.Array) -> jax.Array:
        some = of_environments(sequences, chosen)
        return mean_squared_error(candidate, critic, some, batch.returns[:, chosen])

    parameters, optimizer_state, losses = descend(
        loss,
        parameters,
        optimizer,
        optimizer_state,
        orders,
        minibatch_size=max(1, minibatch_size // len(sequences.obs)),
        max_grad_norm=max_grad_norm,
    )
    errors = (batch.returns - critic(parameters, sequences)[0]).reshape(-1, 1)
    returns = batch.returns.reshape(-1, 1)
    if sequences.rows is not None:
        errors, returns = errors[sequences.rows], returns[sequences.rows]
    return parameters, optimizer_state, summary(losses, errors, returns)


def mean_squared_error(
    parameters: Parameters,
    critic: Callable[[Parameters, Sequences], tuple[jax.Array, jax.Array]],
    sequences: Sequences,
    returns: Float[jax.Array, "t b 1"],
) -> Float[jax.Array, ""]:
    """Mean over the samples of the critic's squared error; 0 where there are none."""
    errors = sequences.valid * (critic(parameters, sequences)[0] - returns)
    return (errors**2).sum() / jnp.maximum(sequences.valid.sum(), 1.0)


def of_environments(sequences: Sequences, chosen: Int[jax.Array, " b"]) -> Sequences:
    """The sequences of some environments, without `rows`."""
    return Sequences(
        sequences.obs[:, chosen],
        sequences.starts[:, chosen],
        sequences.valid[:, chosen],
        None,
        Memory(*(states[chosen] for states in sequences.memory)),
    )
