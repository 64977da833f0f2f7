"""What a critic is fitted to, whatever its network; and minibatch descent on it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from trpo.agent.sharding import Minibatches
from trpo.config.run import TRPOConfig
from trpo_jax.critic.loss import Loss, Targets, mean
from trpo_jax.devices import reduction
from trpo_jax.devices.reduction import Shard
from trpo_jax.networks.feedforward import Parameters


class Part(NamedTuple):
    """Samples, all or some.

    Attributes:
        inputs: of the critic: observations, or `trpo.data.batch.Sequences`.
        targets: of its values.
    """

    inputs: Any
    targets: Targets


class Regression(NamedTuple):
    """A critic's fit to one batch.

    Attributes:
        values: (Parameters, inputs) -> values, shaped like the returns.
        loss: of single samples.
        whole: the batch.
        part: [m] numbers of a minibatch's members -> their samples.
        minibatch_size: members per gradient step.
        orders: [epochs, N] order in which each epoch visits the members; or what this
            device has of the minibatches, where others have the rest.
    """

    values: Callable[[Parameters, Any], jax.Array]
    loss: Loss
    whole: Part
    part: Callable[[jax.Array], Part]
    minibatch_size: int
    orders: Int[jax.Array, "epochs n"] | Minibatches


def descend(
    regression: Regression,
    parameters: Parameters,
    optimizer: optax.GradientTransformation,
    optimizer_state: Any,
    config: TRPOConfig,
) -> tuple[Parameters, Any, Float[jax.Array, "epochs steps"]]:
    """Minibatch gradient descent.

    Args:
        regression: What to fit; an epoch's last step takes the rest of its members.
        parameters: To begin with.
        optimizer: Of the parameters.
        optimizer_state: The optimiser's.
        config: Gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)).

    Returns:
        New parameters, new optimiser state, and the loss before each step.
    """

    def step(carry: tuple, chosen: jax.Array) -> tuple[tuple, jax.Array]:
        candidate, state = carry
        find = loss_and_gradient(regression, regression.part(chosen))
        before, gradient = reduction.together(lambda: find(candidate))
        gradient = clip_by_norm(gradient, config.max_grad_norm)
        updates, state = optimizer.update(gradient, state, candidate)
        return (optax.apply_updates(candidate, updates), state), before

    start = (parameters, optimizer_state)
    if isinstance(regression.orders, Minibatches):
        (parameters, optimizer_state), losses = _steps_of_own(
            step, start, regression.orders
        )
        return parameters, optimizer_state, losses
    orders = regression.orders
    size = orders.shape[1]
    minibatch_size = min(regression.minibatch_size, size)
    whole_steps, rest = divmod(size, minibatch_size)

    def epoch(carry: tuple, order: jax.Array) -> tuple[tuple, jax.Array]:
        head = order[: whole_steps * minibatch_size].reshape(whole_steps, -1)
        carry, losses = jax.lax.scan(step, carry, head)
        if rest:
            carry, last = step(carry, order[-rest:])
            losses = jnp.append(losses, last)
        return carry, losses

    (parameters, optimizer_state), losses = jax.lax.scan(epoch, start, orders)
    return parameters, optimizer_state, losses


def _steps_of_own(
    step: Callable[[tuple, jax.Array], tuple], start: tuple, own: Minibatches
) -> tuple[tuple, jax.Array]:
    """The steps of all epochs, with what this device has of each minibatch."""

    def of_minibatch(carry: tuple, part: Minibatches) -> tuple[tuple, jax.Array]:
        with reduction.sharded(Shard(part.weights)):
            return step(carry, part.indices)

    def epoch(carry: tuple, parts: Minibatches) -> tuple[tuple, jax.Array]:
        return jax.lax.scan(of_minibatch, carry, parts)

    return jax.lax.scan(epoch, start, own)


def clip_by_norm(gradient: Parameters, max_norm: float | jax.Array) -> Parameters:
    """Scale a tree by torch's coefficient, min(1, max_norm / (norm + 1e-6)).

    optax.clip_by_global_norm has no 1e-6 and so differs by about that much.
    """
    coefficient = jnp.minimum(1.0, max_norm / (optax.tree.norm(gradient) + 1e-6))
    return jax.tree.map(lambda leaf: leaf * coefficient, gradient)


def loss_and_gradient(
    regression: Regression, part: Part
) -> Callable[[Parameters], tuple[jax.Array, Parameters]]:
    """Parameters -> mean loss of a part, and its gradient."""

    def loss(parameters: Parameters) -> jax.Array:
        values = regression.values(parameters, part.inputs)
        terms, _ = regression.loss.of(values, part.targets)
        return mean(terms, part.targets.valid)

    return jax.value_and_grad(loss)
