"""The critic's loss, the mean squared error of its values, and its gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

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
