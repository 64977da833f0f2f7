"""Independent yes-or-no choices (`MultiBinary`) in closed form, free of cancellation.

Actions are 0 or 1 as numbers of the network's dtype, [n, k].
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trpo.spaces.action_heads import FORCED, Head
from trpo_torch.distributions.numerics import (
    MAX_LOG_RATIO,
    NEAR,
    below_one,
    expm1_minus_argument,
)


class Bernoulli(NamedTuple):
    """Logits [n, k]: log of the odds of a 1."""

    logits: Float[Tensor, "n k"]

    @classmethod
    def from_network(
        cls, head: Head, outputs: Float[Tensor, "n k"], log_std: None = None
    ) -> "Bernoulli":
        """Outputs of the network are the logits."""
        return cls(outputs)

    def masked(self, head: Head, mask: Float[Tensor, "n options"]) -> "Bernoulli":
        """Without what `mask` forbids, [off, on] of each switch in turn."""
        off, on = mask[:, ::2] > 0, mask[:, 1::2] > 0
        logits = torch.where(off, self.logits, FORCED)
        return self._replace(logits=torch.where(on, logits, -FORCED))

    def log_prob(self, actions: Float[Tensor, "n k"]) -> Float[Tensor, "n 1"]:
        """Log-probability of `actions`, nats."""
        signed = (2.0 * actions - 1.0) * self.logits
        return functional.logsigmoid(signed).sum(-1, keepdim=True)

    def log_ratio(
        self, new: "Bernoulli", actions: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n 1"]:
        """log(new / old probability) of `actions`, exact for tiny differences."""
        signs = 2.0 * actions - 1.0
        ratios = _log_ratio_of_one(signs * self.logits, signs * new.logits)
        return ratios.sum(-1, keepdim=True)

    def entropy(self) -> Float[Tensor, "n 1"]:
        """Entropy, nats."""
        logits = self.logits
        on, off = (
            torch.sigmoid(signed) * functional.logsigmoid(signed)
            for signed in (logits, -logits)
        )
        return -(on + off).sum(-1, keepdim=True)

    def kl(self, new: "Bernoulli") -> Float[Tensor, "n 1"]:
        """KL(old || new), nats, accurate relative to itself however small.

        With d = log(new / old probability) of each outcome: sum p (exp(d) - 1 - d),
        whose terms are all positive; the added sum of p (exp(d) - 1) is zero.
        """
        on, off = (
            torch.sigmoid(sign * self.logits)
            * expm1_minus_argument(
                _log_ratio_of_one(sign * self.logits, sign * new.logits).clamp(
                    max=MAX_LOG_RATIO
                )
            )
            for sign in (1.0, -1.0)
        )
        return (on + off).sum(-1, keepdim=True)

    def sample(self, noise: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Actions from uniform `noise` in [0, 1)."""
        return (below_one(noise) < torch.sigmoid(self.logits)).to(noise.dtype)

    def mode(self) -> Float[Tensor, "n k"]:
        """The most probable actions; of equals, 0."""
        return (self.logits > 0).to(self.logits.dtype)

    def fisher_metric(self, tangent: "Bernoulli") -> "Bernoulli":
        """The mean Fisher matrix over rows, p (1 - p) in logits, times a tangent."""
        logits = self.logits
        # Not p - p²: that cancels near 1.
        variance = torch.sigmoid(logits) * torch.sigmoid(-logits)
        return self._replace(logits=variance * tangent.logits / logits.shape[0])


def _log_ratio_of_one(old: Tensor, new: Tensor) -> Float[Tensor, "n k"]:
    """Log of new over old probability of a 1, from logits.

    With c the logit's change: -log(p + (1 - p) exp(-c)) for old probability p.
    """
    change = new - old
    small = change.abs() <= NEAR
    # Both branches of `where` are differentiated: keep each finite everywhere.
    near = torch.where(small, change, 0.0)
    exact = -torch.log1p(torch.sigmoid(-old) * torch.expm1(-near))
    return torch.where(
        small, exact, functional.logsigmoid(new) - functional.logsigmoid(old)
    )
