"""Independent yes-or-no choices (`MultiBinary`) in closed form, free of cancellation.

Actions are 0 or 1 as numbers of the network's dtype, [n, k].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.spaces.action_heads import FORCED, Head
from trpo_jax.distributions.numerics import (
    MAX_LOG_RATIO,
    NEAR,
    below_one,
    expm1_minus_argument,
)


class Bernoulli(NamedTuple):
    """Logits [n, k]: log of the odds of a 1."""

    logits: Float[jax.Array, "n k"]

    @classmethod
    def from_network(
        cls, head: Head, outputs: Float[jax.Array, "n k"], log_std: None = None
    ) -> "Bernoulli":
        """Outputs of the network are the logits."""
        return cls(outputs)

    def masked(self, head: Head, mask: Float[jax.Array, "n options"]) -> "Bernoulli":
        """Without what `mask` forbids, [off, on] of each switch in turn."""
        off, on = mask[:, ::2] > 0, mask[:, 1::2] > 0
        logits = jnp.where(off, self.logits, FORCED)
        return self._replace(logits=jnp.where(on, logits, -FORCED))

    def log_prob(self, actions: Float[jax.Array, "n k"]) -> Float[jax.Array, "n 1"]:
        """Log-probability of `actions`, nats."""
        signed = (2.0 * actions - 1.0) * self.logits
        return jax.nn.log_sigmoid(signed).sum(-1, keepdims=True)

    def log_ratio(
        self, new: "Bernoulli", actions: Float[jax.Array, "n k"]
    ) -> Float[jax.Array, "n 1"]:
        """log(new / old probability) of `actions`, exact for tiny differences."""
        signs = 2.0 * actions - 1.0
        ratios = _log_ratio_of_one(signs * self.logits, signs * new.logits)
        return ratios.sum(-1, keepdims=True)

    def entropy(self) -> Float[jax.Array, "n 1"]:
        """Entropy, nats."""
        logits = self.logits
        on, off = (
            jax.nn.sigmoid(signed) * jax.nn.log_sigmoid(signed)
            for signed in (logits, -logits)
        )
        return -(on + off).sum(-1, keepdims=True)

    def kl(self, new: "Bernoulli") -> Float[jax.Array, "n 1"]:
        """KL(old || new), nats, accurate relative to itself however small.

        With d = log(new / old probability) of each outcome: sum p (exp(d) - 1 - d),
        whose terms are all positive; the added sum of p (exp(d) - 1) is zero.
        """
        on, off = (
            jax.nn.sigmoid(sign * self.logits)
            * expm1_minus_argument(
                jnp.minimum(
                    _log_ratio_of_one(sign * self.logits, sign * new.logits),
                    MAX_LOG_RATIO,
                )
            )
            for sign in (1.0, -1.0)
        )
        return (on + off).sum(-1, keepdims=True)

    def sample(self, noise: Float[jax.Array, "n k"]) -> Float[jax.Array, "n k"]:
        """Actions from uniform `noise` in [0, 1)."""
        return (below_one(noise) < jax.nn.sigmoid(self.logits)).astype(noise.dtype)

    def mode(self) -> Float[jax.Array, "n k"]:
        """The most probable actions; of equals, 0."""
        return (self.logits > 0).astype(self.logits.dtype)

    def fisher_metric(self, tangent: "Bernoulli") -> "Bernoulli":
        """The mean Fisher matrix over rows, p (1 - p) in logits, times a tangent."""
        logits = self.logits
        # Not p - p²: that cancels near 1.
        variance = jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits)
        return self._replace(logits=variance * tangent.logits / logits.shape[0])


def _log_ratio_of_one(old: jax.Array, new: jax.Array) -> Float[jax.Array, "n k"]:
    """Log of new over old probability of a 1, from logits.

    With c the logit's change: -log(p + (1 - p) exp(-c)) for old probability p.
    """
    change = new - old
    small = jnp.abs(change) <= NEAR
    # Both branches of `where` are differentiated: keep each finite everywhere.
    near = jnp.where(small, change, 0.0)
    exact = -jnp.log1p(jax.nn.sigmoid(-old) * jnp.expm1(-near))
    return jnp.where(small, exact, jax.nn.log_sigmoid(new) - jax.nn.log_sigmoid(old))
