"""Regression of a recurrent critic: minibatches are of whole environments."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import Int

from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch, Sequences
from trpo.data.hidden_state import Memory
from trpo_jax.critic.fit import FITTERS, ValueFit, summary
from trpo_jax.critic.loss import Part, Regression, Targets, value_loss
from trpo_jax.networks.feedforward import Parameters


def fit_recurrent_critic(
    critic: Callable[[Parameters, Sequences], tuple[jax.Array, jax.Array]],
    parameters: Parameters,
    optimizer: optax.GradientTransformation,
    optimizer_state: Any,
    batch: Batch,
    orders: Int[jax.Array, "epochs b"],
    config: TRPOConfig,
) -> tuple[Parameters, Any, ValueFit]:
    """Fit the critic to the returns of a batch of sequences.

    Args:
        critic: (Parameters, sequences) -> values [T, B, 1] and the last state.
        parameters: The critic's.
        optimizer: Of the critic's parameters.
        optimizer_state: The optimiser's.
        batch: Samples; its `obs` are `Sequences`.
        orders: [epochs, B] order in which each epoch visits the environments.
        config: Says which loss, how it is fitted, and the samples of a gradient step:
            of as many environments as have no more, and of one at least; an epoch's
            last step takes the rest.

    Returns:
        New parameters, new optimiser state, and the fit's numbers.
    """
    sequences = batch.obs
    regression = sequence_regression(critic, parameters, batch, orders, config)
    parameters, optimizer_state, losses = FITTERS[config.value_fit](
        regression, parameters, optimizer, optimizer_state, config
    )
    errors = (batch.returns - critic(parameters, sequences)[0]).reshape(-1, 1)
    returns = batch.returns.reshape(-1, 1)
    if sequences.rows is not None:
        errors, returns = errors[sequences.rows], returns[sequences.rows]
    return parameters, optimizer_state, summary(losses, errors, returns)


def sequence_regression(
    critic: Callable[[Parameters, Sequences], tuple[jax.Array, jax.Array]],
    parameters: Parameters,
    batch: Batch,
    orders: Int[jax.Array, "epochs b"],
    config: TRPOConfig,
) -> Regression:
    """The regression problem that `fit_recurrent_critic` solves."""
    sequences = batch.obs
    steps, envs, _ = sequences.obs.shape

    def values(candidate: Parameters, some: Sequences) -> jax.Array:
        return critic(candidate, some)[0]

    old = None if config.value_clip is None else values(parameters, sequences)
    whole = Part(sequences, Targets(batch.returns, sequences.valid, old))
    return Regression(
        values,
        value_loss(config),
        whole,
        lambda chosen: of_environments(whole, chosen),
        max(1, (config.value_minibatch_size or steps * envs) // steps),
        orders,
    )


def of_environments(whole: Part, chosen: Int[jax.Array, " b"]) -> Part:
    """The sequences and targets of some environments, without `rows`."""
    sequences = whole.inputs
    some = Sequences(
        sequences.obs[:, chosen],
        sequences.starts[:, chosen],
        sequences.valid[:, chosen],
        None,
        Memory(*(states[chosen] for states in sequences.memory)),
    )
    return Part(some, jax.tree.map(lambda column: column[:, chosen], whole.targets))
