"""Real numbers and choices in one action (`Tuple`, `Dict`): Gaussian and categorical.

The parts are independent given the state, so log-probability, entropy and KL add, and
the Fisher matrix is block-diagonal. An action [n, act_dim] has the real entries first,
then the choices; so have the network's outputs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.spaces.action_heads import Head
from trpo_jax.distributions import categorical, gaussian
from trpo_jax.distributions.categorical import Categorical
from trpo_jax.distributions.gaussian import DiagonalGaussian


class Mixed(NamedTuple):
    """Mean [n, reals], log_std [n or 1, reals] and choices' logits [n, k, m]."""

    mean: Float[jax.Array, "n reals"]
    log_std: Float[jax.Array, "m reals"]
    logits: Float[jax.Array, "n k m"]


TYPE = Mixed


def from_network(
    head: Head,
    outputs: Float[jax.Array, "n outputs"],
    log_std: Float[jax.Array, " reals"] | None,
) -> Mixed:
    """The Gaussian of the first outputs, the choices of the others."""
    real = head.real_outputs
    return Mixed(
        *gaussian.from_network(head, outputs[:, :real], log_std),
        *categorical.from_network(head, outputs[:, real:]),
    )


def masked(head: Head, mixed: Mixed, mask: Float[jax.Array, "n options"]) -> Mixed:
    """Without the options where `mask` is 0, as if those were missing."""
    reals, choices = _parts(mixed)
    return Mixed(*reals, *categorical.masked(head, choices, mask))


def log_prob(
    mixed: Mixed, actions: Float[jax.Array, "n act_dim"]
) -> Float[jax.Array, "n 1"]:
    """Log-density of the reals plus log-probability of the choices, nats."""
    (reals, choices), (x, options) = _parts(mixed), _split(mixed, actions)
    return gaussian.log_prob(reals, x) + categorical.log_prob(choices, options)


def log_ratio(
    old: Mixed, new: Mixed, actions: Float[jax.Array, "n act_dim"]
) -> Float[jax.Array, "n 1"]:
    """log(new / old) of `actions`, exact for tiny differences."""
    (before, choices_before), (after, choices_after) = _parts(old), _parts(new)
    x, options = _split(old, actions)
    of_reals = gaussian.log_ratio(before, after, x)
    return of_reals + categorical.log_ratio(choices_before, choices_after, options)


def entropy(mixed: Mixed) -> Float[jax.Array, "n 1"]:
    """Differential entropy of the reals plus entropy of the choices, nats."""
    reals, choices = _parts(mixed)
    return gaussian.entropy(reals) + categorical.entropy(choices)


def kl_old_to_new(old: Mixed, new: Mixed) -> Float[jax.Array, "n 1"]:
    """KL(old || new), nats, accurate relative to itself however small."""
    (before, choices_before), (after, choices_after) = _parts(old), _parts(new)
    of_reals = gaussian.kl_old_to_new(before, after)
    return of_reals + categorical.kl_old_to_new(choices_before, choices_after)


def sample(
    mixed: Mixed, noise: Float[jax.Array, "n act_dim"]
) -> Float[jax.Array, "n act_dim"]:
    """Actions from standard normal noise for the reals, uniform for the choices."""
    (reals, choices), (normal, uniform) = _parts(mixed), _split(mixed, noise)
    parts = (gaussian.sample(reals, normal), categorical.sample(choices, uniform))
    return jnp.concatenate([*parts], axis=1)


def mode(mixed: Mixed) -> Float[jax.Array, "n act_dim"]:
    """The most likely actions: means, and the most probable options."""
    reals, choices = _parts(mixed)
    return jnp.concatenate([gaussian.mode(reals), categorical.mode(choices)], axis=1)


def fisher_metric(mixed: Mixed, tangent: Mixed) -> Mixed:
    """The mean Fisher matrix over rows, block by block, times a tangent."""
    (reals, choices), (u, v) = _parts(mixed), _parts(tangent)
    return Mixed(
        *gaussian.fisher_metric(reals, u), *categorical.fisher_metric(choices, v)
    )


def _parts(mixed: Mixed) -> tuple[DiagonalGaussian, Categorical]:
    return DiagonalGaussian(mixed.mean, mixed.log_std), Categorical(mixed.logits)


def _split(mixed: Mixed, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The columns of the reals, and those of the choices."""
    reals = mixed.mean.shape[1]
    return columns[:, :reals], columns[:, reals:]
