"""The critic's fit to a batch's returns: its loss, and minibatch gradient descent."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Float, Int

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch
from trpo_jax.devices.chunked import in_chunks
from trpo_jax.devices.means import mean, variance
from trpo_jax.devices.mesh import constrained_to
from trpo_jax.networks.feedforward import Parameters


class Samples(NamedTuple):
    """Inputs of a critic and the returns that its values are to be.

    Attributes:
        inputs: observations, or `trpo.data.batch.Sequences`.
        returns: of each, [n, 1] or [T, B, 1].
        valid: 1 where an entry is a sample, else 0; None where all are.
    """

    inputs: Any
    returns: jax.Array
    valid: jax.Array | None = None

    def errors(self, values: jax.Array) -> jax.Array:
        """Values less returns; 0 where an entry is no sample."""
        errors = values - self.returns
        return errors if self.valid is None else self.valid * errors

    def mean(self, terms: jax.Array) -> Float[jax.Array, ""]:
        """Mean over the samples of terms that are 0 elsewhere; 0 if there are none."""
        if self.valid is None:
            return terms.mean()
        return terms.sum() / jnp.maximum(self.valid.sum(), 1.0)


class Regression(NamedTuple):
    """A critic's fit to one batch.

    Attributes:
        values: (Parameters, inputs) -> values, shaped like the returns.
        select: [m] numbers of a minibatch's members -> their samples.
        minibatch_size: members per gradient step.
        orders: [epochs, N] order in which each epoch visits the members.
    """

    values: Callable[[Parameters, Any], jax.Array]
    select: Callable[[jax.Array], Samples]
    minibatch_size: int
    orders: Int[jax.Array, "epochs n"]


def loss_and_gradient(
    regression: Regression, samples: Samples
) -> Callable[[Parameters], tuple[jax.Array, Parameters]]:
    """Parameters -> mean loss of the samples, and its gradient."""

    def loss(parameters: Parameters) -> jax.Array:
        errors = samples.errors(regression.values(parameters, samples.inputs))
        return samples.mean(errors**2)

    return jax.value_and_grad(loss)


class ValueFit(NamedTuple):
    """Outcome of the critic's fit.

    Attributes:
        loss: mean over all steps of the (minibatch's) loss before the step.
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
    options: StepOptions,
    numbers: StepNumbers,
    mesh: Mesh | None = None,
) -> tuple[Parameters, Any, ValueFit]:
    """Fit the critic to the batch's returns.

    Args:
        critic: (Parameters, observations [n, obs_dim]) -> values [n, 1].
        parameters: The critic's.
        optimizer: Of the critic's parameters.
        optimizer_state: The optimiser's.
        batch: Samples.
        orders: [epochs, N] order in which each epoch visits the samples.
        options: Say the samples of a gradient step; an epoch's last step takes the
            rest.
        numbers: Of this update.
        mesh: Of the devices that the samples are on, where they are many.

    Returns:
        New parameters, new optimiser state, and the fit's numbers.
    """
    regression = sample_regression(critic, batch, orders, options, mesh)
    parameters, optimizer_state, loss = descend(
        regression, parameters, optimizer, optimizer_state, numbers.max_grad_norm
    )
    rows = options.batch_chunk_size
    at = functools.partial(critic, parameters)
    values = in_chunks(at, rows, batch.obs) if rows else at(batch.obs)
    errors = batch.returns - values
    fit = summary(loss, errors, batch.returns, batch.weights)
    return parameters, optimizer_state, fit


def sample_regression(
    critic: Callable[[Parameters, jax.Array], jax.Array],
    batch: Batch,
    orders: Int[jax.Array, "epochs n"],
    options: StepOptions,
    mesh: Mesh | None = None,
) -> Regression:
    """The regression problem that `fit_critic` solves."""
    whole = Samples(batch.obs, batch.returns, batch.weights)
    # A minibatch's members may be anywhere. With all samples on each device it takes
    # its share of them from itself, and only gradients are summed.
    everywhere = whole if mesh is None else constrained_to(mesh, whole, divided=False)

    def select(chosen: jax.Array) -> Samples:
        # The whole batch needs no gathering: its order can't matter.
        if chosen.shape[0] == batch.obs.shape[0]:
            return whole
        some = jax.tree.map(lambda array: _rows(array, chosen), everywhere)
        return some if mesh is None else constrained_to(mesh, some, divided=True)

    size = options.value_minibatch_size or len(batch.obs)
    return Regression(critic, select, size, orders)


def summary(
    loss: jax.Array,
    errors: Float[jax.Array, "n 1"],
    returns: Float[jax.Array, "n 1"],
    weights: Float[jax.Array, "n 1"] | None,
) -> ValueFit:
    """A fit's numbers, from the loss of its steps and the errors after the last."""
    return ValueFit(
        loss=loss,
        mae=mean(jnp.abs(errors), weights),
        explained_variance=explained_variance(errors, returns, weights),
    )


def explained_variance(
    errors: jax.Array, returns: jax.Array, weights: jax.Array | None = None
) -> jax.Array:
    """1 - var(errors) / var(returns), population variances; 0 for constant returns."""
    of_returns = variance(returns, weights)
    safe = jnp.where(of_returns > 0, of_returns, 1.0)
    share = variance(errors, weights) / safe
    return jnp.where(of_returns > 0, 1.0 - share, 0.0)


def _rows(array: jax.Array, indices: jax.Array) -> jax.Array:
    # A permutation is in bounds by construction.
    return array.at[indices].get(mode="promise_in_bounds")


def descend(
    regression: Regression,
    parameters: Parameters,
    optimizer: optax.GradientTransformation,
    optimizer_state: Any,
    max_grad_norm: float | jax.Array,
) -> tuple[Parameters, Any, Float[jax.Array, ""]]:
    """Minibatch gradient descent; a minibatch without a sample makes no step.

    Args:
        regression: What to fit; an epoch's last step takes the rest of its members.
        parameters: To begin with.
        optimizer: Of the parameters.
        optimizer_state: The optimiser's.
        max_grad_norm: Gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)).

    Returns:
        New parameters, new optimiser state, and the mean of the loss before each step.
    """

    def step(carry: tuple, chosen: jax.Array) -> tuple[tuple, tuple]:
        samples = regression.select(chosen)

        def taken() -> tuple[tuple, jax.Array]:
            candidate, state = carry
            before, gradient = loss_and_gradient(regression, samples)(candidate)
            gradient = clip_by_norm(gradient, max_grad_norm)
            updates, state = optimizer.update(gradient, state, candidate)
            return (optax.apply_updates(candidate, updates), state), before

        if samples.valid is None:
            carry, before = taken()
            return carry, (before, jnp.ones_like(before))
        some, none = (samples.valid > 0).any(), jnp.zeros((), samples.returns.dtype)
        carry, before = jax.lax.cond(some, taken, lambda: (carry, none))
        return carry, (before, some.astype(none.dtype))

    start = (parameters, optimizer_state)
    orders = regression.orders
    size = orders.shape[1]
    minibatch_size = min(regression.minibatch_size, size)
    whole_steps, rest = divmod(size, minibatch_size)

    def epoch(carry: tuple, order: jax.Array) -> tuple[tuple, tuple]:
        head = order[: whole_steps * minibatch_size].reshape(whole_steps, -1)
        carry, found = jax.lax.scan(step, carry, head)
        if rest:
            carry, last = step(carry, order[-rest:])
            found = jax.tree.map(jnp.append, found, last)
        return carry, found

    (parameters, optimizer_state), found = jax.lax.scan(epoch, start, orders)
    losses, made = found
    # Of differences, which are small: their sum loses fewer digits.
    first = losses.reshape(-1)[0]
    loss = first + (made * (losses - first)).sum() / made.sum()
    return parameters, optimizer_state, loss


def clip_by_norm(gradient: Parameters, max_norm: float | jax.Array) -> Parameters:
    """Scale a tree by torch's coefficient, min(1, max_norm / (norm + 1e-6)).

    optax.clip_by_global_norm has no 1e-6 and so differs by about that much.
    """
    coefficient = jnp.minimum(1.0, max_norm / (optax.tree.norm(gradient) + 1e-6))
    return jax.tree.map(lambda leaf: leaf * coefficient, gradient)
