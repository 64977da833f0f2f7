"""The critic's loss, a function of its values; chosen once from the configuration.

With e = v - y the error of a value v against its return y, a loss is the mean over the
samples of rho(e), of which rho' / 2 is called slope and rho'' / 2 curvature: of the
squared error, they are e and 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from trpo.agent.sharding import Minibatches
from trpo.config.run import TRPOConfig
from trpo_jax.devices import reduction
from trpo_jax.networks.feedforward import Parameters


class Targets(NamedTuple):
    """Targets of the critic's values, each [n, 1] or [T, B, 1].

    Attributes:
        returns: y.
        valid: 1 where an entry is a sample, else 0; None where all are.
        old_values: the critic's before the update; None where no loss asks for them.
    """

    returns: jax.Array
    valid: jax.Array | None = None
    old_values: jax.Array | None = None

    def errors(self, values: jax.Array) -> jax.Array:
        """Values less returns; 0 where an entry is no sample."""
        errors = values - self.returns
        return errors if self.valid is None else self.valid * errors


class Loss(NamedTuple):
    """A loss of single samples.

    Attributes:
        of: (values, targets) -> rho and slope of each sample.
        curvature: (values, targets) -> curvature of each sample.
    """

    of: Callable[[jax.Array, Targets], tuple[jax.Array, jax.Array]]
    curvature: Callable[[jax.Array, Targets], jax.Array]


def squared_error(_config: TRPOConfig) -> Loss:
    """rho(e) = e**2."""

    def of(values: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        errors = targets.errors(values)
        return errors**2, errors

    return Loss(of, lambda values, _targets: jnp.ones_like(values))


def huber(config: TRPOConfig) -> Loss:
    """rho(e) = e**2 where |e| <= delta, else 2 delta |e| - delta**2.

    Huber 1964, "Robust Estimation of a Location Parameter", doubled, so that the
    squared error is its limit for delta -> infinity. The slope is his psi, e clipped to
    [-delta, delta].
    """
    delta = config.huber_delta

    def of(values: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        errors = targets.errors(values)
        slopes = jnp.clip(errors, -delta, delta)
        return slopes * (2.0 * errors - slopes), slopes

    def curvature(values: jax.Array, targets: Targets) -> jax.Array:
        return (jnp.abs(values - targets.returns) <= delta).astype(values.dtype)

    return Loss(of, curvature)


LOSSES = {"squared_error": squared_error, "huber": huber}


def value_loss(config: TRPOConfig) -> Loss:
    """The configured loss, clipped if that is configured."""
    loss = LOSSES[config.value_loss](config)
    return loss if config.value_clip is None else clipped(loss, config.value_clip)


def clipped(loss: Loss, clip: float) -> Loss:
    """The greater of a loss at v and at v_old + clip(v - v_old, -clip, clip).

    Dhariwal et al. 2017, "OpenAI Baselines", ppo2 (Engstrom et al. 2020,
    "Implementation Matters in Deep Policy Gradients", section 3). A value that has come
    nearer to its return by more than `clip` has nothing left to gain: slope and
    curvature are 0. Inside the range v itself is taken, not the rounded sum above.

    Args:
        loss: rises with |e|, like all in `LOSSES`.
        clip: Largest change of a value, in the units of returns.
    """

    def bounds(values: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        old, returns = targets.old_values, targets.returns
        assert old is not None
        values = jax.lax.stop_gradient(values)
        change = values - old
        bound = old + jnp.clip(change, -clip, clip)
        nearer = jnp.abs(bound - returns) > jnp.abs(values - returns)
        return bound, (jnp.abs(change) > clip) & nearer

    def of(values: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        bound, held = bounds(values, targets)
        terms, slopes = loss.of(values, targets)
        at_bound, _ = loss.of(bound, targets)
        return jnp.where(held, at_bound, terms), jnp.where(held, 0.0, slopes)

    def curvature(values: jax.Array, targets: Targets) -> jax.Array:
        _, held = bounds(values, targets)
        return jnp.where(held, 0.0, loss.curvature(values, targets))

    return Loss(of, curvature)


def mean(terms: jax.Array, valid: jax.Array | None) -> Float[jax.Array, ""]:
    """Mean over the samples, of terms that are 0 elsewhere; 0 where there are none."""
    if valid is None:
        return reduction.mean(terms)
    return terms.sum() / jnp.maximum(valid.sum(), 1.0)


def weights(targets: Targets) -> jax.Array | float:
    """Weight of each entry in `mean`."""
    if targets.valid is None:
        return reduction.row_weight(len(targets.returns))
    return targets.valid / jnp.maximum(targets.valid.sum(), 1.0)


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


def loss_and_gradient(
    regression: Regression, part: Part
) -> Callable[[Parameters], tuple[jax.Array, Parameters]]:
    """Parameters -> mean loss of a part, and its gradient."""

    def loss(parameters: Parameters) -> jax.Array:
        values = regression.values(parameters, part.inputs)
        terms, _ = regression.loss.of(values, part.targets)
        return mean(terms, part.targets.valid)

    return jax.value_and_grad(loss)
