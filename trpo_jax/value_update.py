"""Critic regression: minibatch gradient descent on the squared error of returns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from trpo.types import Batch
from trpo_jax.networks import Parameters


class ValueFit(NamedTuple):
    """Outcome of the critic's fit.

    Attributes:
        loss: mean over all gradient steps of the minibatch's mean squared error.
        mae: mean absolute error over the batch after the fit.
        explained_variance: 1 - var(returns - values) / var(returns) after the fit.
    """

    loss: jax.Array
    mae: jax.Array
    explained_variance: jax.Array


def fit_critic(
    critic: Callable[[Parameters, jax.Array], jax.Array],
    parameters: Parameters,
    optimizer: optax.GradientTransformation,
    optimizer_state: Any,
    batch: Batch,
    orders: Int[jax.Array, "epochs n"],
    *,
    minibatch_size: int,
    max_grad_norm: float | jax.Array,
) -> tuple[Parameters, Any, ValueFit]:
    """Fit the critic to the batch's returns.

    Args:
        critic: (Parameters, observations [n, obs_dim]) -> values [n, 1].
        parameters: The critic's.
        optimizer: Of the critic's parameters.
        optimizer_state: The optimiser's.
        batch: Samples.
        orders: [epochs, N] order in which each epoch visits the samples.
        minibatch_size: Samples per gradient step; an epoch's last step takes the rest.
        max_grad_norm: Gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)).

    Returns:
        New parameters, new optimiser state, and the fit's numbers.
    """

    def loss(candidate: Parameters, chosen: jax.Array) -> jax.Array:
        # The whole batch needs no gathering: its order can't matter.
        whole = chosen.shape[0] == batch.obs.shape[0]
        obs = batch.obs if whole else _rows(batch.obs, chosen)
        returns = batch.returns if whole else _rows(batch.returns, chosen)
        return jnp.mean((critic(candidate, obs) - returns) ** 2)

    parameters, optimizer_state, losses = descend(
        loss,
        parameters,
        optimizer,
        optimizer_state,
        orders,
        minibatch_size=minibatch_size,
        max_grad_norm=max_grad_norm,
    )
    errors = batch.returns - critic(parameters, batch.obs)
    return parameters, optimizer_state, summary(losses, errors, batch.returns)


def descend(
    loss: Callable[[Parameters, jax.Array], jax.Array],
    parameters: Parameters,
    optimizer: optax.GradientTransformation,
    optimizer_state: Any,
    orders: Int[jax.Array, "epochs n"],
    *,
    minibatch_size: int,
    max_grad_norm: float | jax.Array,
) -> tuple[Parameters, Any, Float[jax.Array, "epochs steps"]]:
    """Minibatch gradient descent.

    Args:
        loss: (Parameters, [m] numbers of a minibatch's members) -> its loss.
        parameters: To begin with.
        optimizer: Of the parameters.
        optimizer_state: The optimiser's.
        orders: [epochs, N] order in which each epoch visits the members.
        minibatch_size: Members per gradient step; an epoch's last step takes the rest.
        max_grad_norm: As `fit_critic`'s.

    Returns:
        New parameters, new optimiser state, and the loss before each step.
    """
    size = orders.shape[1]
    minibatch_size = min(minibatch_size, size)
    whole_steps, rest = divmod(size, minibatch_size)

    def step(carry: tuple, chosen: jax.Array) -> tuple[tuple, jax.Array]:
        candidate, state = carry
        before, gradient = jax.value_and_grad(loss)(candidate, chosen)
        gradient = clip_by_norm(gradient, max_grad_norm)
        updates, state = optimizer.update(gradient, state, candidate)
        return (optax.apply_updates(candidate, updates), state), before

    def epoch(carry: tuple, order: jax.Array) -> tuple[tuple, jax.Array]:
        head = order[: whole_steps * minibatch_size].reshape(whole_steps, -1)
        carry, losses = jax.lax.scan(step, carry, head)
        if rest:
            carry, last = step(carry, order[-rest:])
            losses = jnp.append(losses, last)
        return carry, losses

    (parameters, optimizer_state), losses = jax.lax.scan(
        epoch, (parameters, optimizer_state), orders
    )
    return parameters, optimizer_state, losses


def summary(
    losses: jax.Array, errors: Float[jax.Array, "n 1"], returns: Float[jax.Array, "n 1"]
) -> ValueFit:
    """A fit's numbers, from the loss of each step and the errors after the last."""
    return ValueFit(
        loss=losses.mean(),
        mae=jnp.abs(errors).mean(),
        explained_variance=explained_variance(errors, returns),
    )


def explained_variance(errors: jax.Array, returns: jax.Array) -> jax.Array:
    """1 - var(errors) / var(returns), population variances; 0 for constant returns."""
    variance = returns.var()
    safe = jnp.where(variance > 0, variance, 1.0)
    return jnp.where(variance > 0, 1.0 - errors.var() / safe, 0.0)


def clip_by_norm(gradient: Parameters, max_norm: float | jax.Array) -> Parameters:
    """Scale a tree by torch's coefficient, min(1, max_norm / (norm + 1e-6)).

    optax.clip_by_global_norm has no 1e-6 and so differs by about that much.
    """
    coefficient = jnp.minimum(1.0, max_norm / (optax.tree.norm(gradient) + 1e-6))
    return jax.tree.map(lambda leaf: leaf * coefficient, gradient)


def _rows(array: jax.Array, indices: jax.Array) -> jax.Array:
    # A permutation is in bounds by construction.
    return array.at[indices].get(mode="promise_in_bounds")
