"""Independent categorical choices in closed form, free of cancellation.

One `Discrete` action is one choice; `MultiDiscrete` has k of them, joint by product.
Choices of fewer options than the widest are filled up with options that have `MASKED`
for a logit: probability and gradient exactly zero. Actions are the options' indices as
numbers of the network's dtype, [n, k].
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.spaces.action_heads import MASKED, Head
from trpo_jax.distributions.numerics import (
    MAX_LOG_RATIO,
    NEAR,
    below_one,
    expm1_minus_argument,
)


class Categorical(NamedTuple):
    """Logits [n, k, m] of k choices among at most m options."""

    logits: Float[jax.Array, "n k m"]

    @classmethod
    def from_network(
        cls, head: Head, outputs: Float[jax.Array, "n outputs"], log_std: None = None
    ) -> "Categorical":
        """Outputs of the network are the logits of all choices in turn."""
        return cls(_by_choice(head, outputs, MASKED))

    def masked(self, head: Head, mask: Float[jax.Array, "n options"]) -> "Categorical":
        """Without the options where `mask` is 0, as if those were missing."""
        allowed = _by_choice(head, mask, 0.0) > 0
        return self._replace(logits=jnp.where(allowed, self.logits, MASKED))

    def log_probabilities(self) -> Float[jax.Array, "n k m"]:
        """Logarithm of each option's probability."""
        return jax.nn.log_softmax(self.logits, axis=-1)

    def log_prob(self, actions: Float[jax.Array, "n k"]) -> Float[jax.Array, "n 1"]:
        """Log-probability of `actions`, nats."""
        return _chosen(self.log_probabilities(), actions).sum(-1, keepdims=True)

    def log_ratio(
        self, new: "Categorical", actions: Float[jax.Array, "n k"]
    ) -> Float[jax.Array, "n 1"]:
        """log(new / old probability) of `actions`, exact for tiny differences."""
        return _chosen(_log_ratios(self, new), actions).sum(-1, keepdims=True)

    def entropy(self) -> Float[jax.Array, "n 1"]:
        """Entropy, nats."""
        log_p = self.log_probabilities()
        return -(jnp.exp(log_p) * log_p).sum((-2, -1))[:, None]

    def kl(self, new: "Categorical") -> Float[jax.Array, "n 1"]:
        """KL(old || new), nats, accurate relative to itself however small.

        With d = log(new / old probability): sum p (exp(d) - 1 - d), whose terms are all
        positive; the added sum of p (exp(d) - 1) is zero.
        """
        p = jnp.exp(self.log_probabilities())
        d = jnp.minimum(_log_ratios(self, new), MAX_LOG_RATIO)
        return (p * expm1_minus_argument(d)).sum((-2, -1))[:, None]

    def sample(self, noise: Float[jax.Array, "n k"]) -> Float[jax.Array, "n k"]:
        """Actions from uniform `noise` in [0, 1), by inversion."""
        p = jnp.exp(self.log_probabilities())
        cumulative = jnp.cumsum(p, axis=-1)
        # Below the whole sum, after rounding too: some option's sum exceeds it.
        threshold = below_one(noise)[..., None] * cumulative[..., -1:]
        return (cumulative <= threshold).sum(-1).astype(noise.dtype)

    def mode(self) -> Float[jax.Array, "n k"]:
        """The most probable actions; of equals, the first."""
        logits = self.logits
        return jnp.argmax(logits, axis=-1).astype(logits.dtype)

    def fisher_metric(self, tangent: "Categorical") -> "Categorical":
        """The mean Fisher matrix over rows, in the logits, times a tangent.

        It is diag(p) - p p' for each sample and choice.
        """
        p = jnp.exp(self.log_probabilities())
        centered = tangent.logits - (p * tangent.logits).sum(-1, keepdims=True)
        return self._replace(logits=p * centered / p.shape[0])


def _by_choice(
    head: Head, outputs: Float[jax.Array, "n outputs"], fill: float
) -> Float[jax.Array, "n k m"]:
    """Outputs of all choices in turn, apart; missing options are `fill`."""
    sizes, widest = head.action_sizes, max(head.action_sizes)
    if min(sizes) == widest:
        return outputs.reshape(-1, len(sizes), widest)
    ends = list(itertools.accumulate(sizes))
    parts = [
        jnp.pad(part, ((0, 0), (0, widest - part.shape[1])), constant_values=fill)
        for part in jnp.split(outputs, ends[:-1], axis=1)
    ]
    return jnp.stack(parts, axis=1)


def _chosen(
    values: Float[jax.Array, "n k m"], actions: Float[jax.Array, "n k"]
) -> Float[jax.Array, "n k"]:
    index = actions.astype(jnp.int32)[..., None]
    return jnp.take_along_axis(values, index, axis=-1)[..., 0]


def _log_ratios(old: Categorical, new: Categorical) -> Float[jax.Array, "n k m"]:
    """log(new / old probability) of every option.

    With p the old probabilities and c the change of the logits less its mean over p:
    c - log(sum p exp(c)), and the sum is 1 + sum p (exp(c) - 1).
    """
    p = jnp.exp(old.log_probabilities())
    change = new.logits - old.logits
    change = change - (p * change).sum(-1, keepdims=True)
    small = (jnp.abs(change) * (p > 0)).max(-1, keepdims=True) <= NEAR
    # Both branches of `where` are differentiated: keep each finite everywhere.
    near = jnp.where(small & (p > 0), change, 0.0)
    normalizer = jnp.log1p((p * jnp.expm1(near)).sum(-1, keepdims=True))
    far = new.log_probabilities() - old.log_probabilities()
    return jnp.where(small, change - normalizer, far)
