"""Surrogate objective and mean KL (Schulman et al. 2015, eqs. 13 and 14)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch
from trpo_jax.devices.means import mean
from trpo_jax.distributions import Distribution


class Surrogate(NamedTuple):
    """Surrogate objective and the importance weights in it.

    Attributes:
        value: [] mean of ratio times advantage.
        ratio: [n, 1] density now over density when the action was taken.
        log_ratio: [n, 1] its logarithm.
    """

    value: Float[jax.Array, ""]
    ratio: Float[jax.Array, "n 1"]
    log_ratio: Float[jax.Array, "n 1"]


def surrogate(distribution: Distribution, batch: Batch) -> Surrogate:
    """L = mean(exp(log_prob - old_log_prob) * advantage)."""
    log_ratio = distribution.log_prob(batch.actions) - batch.log_probs
    ratio = jnp.exp(log_ratio)
    value = mean(ratio * batch.advantages, batch.weights)
    return Surrogate(value, ratio, log_ratio)


def surrogate_improvement(
    old: Distribution, new: Distribution, batch: Batch, old_ratio: jax.Array
) -> Float[jax.Array, ""]:
    """L(new) - L(old) as one mean of differences, exact for tiny steps.

    Args:
        old: Policy at the old parameters.
        new: Policy at the candidate's parameters.
        batch: Samples.
        old_ratio: [n, 1] ratio at the old parameters; 1 where log-probs are fresh.
    """
    log_ratio = old.log_ratio(new, batch.actions)
    gains = old_ratio * jnp.expm1(log_ratio) * batch.advantages
    return mean(gains, batch.weights)


def mean_kl(
    old: Distribution,
    new: Distribution,
    weights: Float[jax.Array, "n 1"] | None = None,
) -> Float[jax.Array, ""]:
    """Mean over samples of KL(old || new), nats."""
    return mean(old.kl(new), weights)


class Objective(NamedTuple):
    """An objective for a policy step to improve.

    Attributes:
        value: as `surrogate`.
        improvement: as `surrogate_improvement`.
    """

    value: Callable[[Distribution, Batch], Surrogate]
    improvement: Callable[[Distribution, Distribution, Batch, jax.Array], jax.Array]


SURROGATE = Objective(surrogate, surrogate_improvement)


def with_entropy(coefficient: float | jax.Array) -> Objective:
    """The surrogate plus `coefficient` times the mean entropy."""

    def value(distribution: Distribution, batch: Batch) -> Surrogate:
        found = surrogate(distribution, batch)
        entropy = distribution.entropy()
        bonus = coefficient * mean(entropy, batch.weights)
        return found._replace(value=found.value + bonus)

    def improvement(
        old: Distribution, new: Distribution, batch: Batch, old_ratio: jax.Array
    ) -> jax.Array:
        gain = surrogate_improvement(old, new, batch, old_ratio)
        # Row by row: the difference of two means would lose digits.
        change = new.entropy() - old.entropy()
        return gain + coefficient * mean(change, batch.weights)

    return Objective(value, improvement)


def objective_of(options: StepOptions, numbers: StepNumbers) -> Objective:
    """The objective that these settings ask for."""
    coefficient = numbers.entropy_coefficient
    return with_entropy(coefficient) if options.with_entropy else SURROGATE
