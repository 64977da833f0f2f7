"""Independent categorical choices in closed form, free of cancellation.

One `Discrete` action is one choice; `MultiDiscrete` has k of them, joint by product.
Choices of fewer options than the widest are filled up with options that have `MASKED`
for a logit: probability and gradient exactly zero. Actions are the options' indices as
numbers of the network's dtype, [n, k].
"""

import itertools
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trpo.spaces.action_heads import MASKED, Head
from trpo_torch.distributions.numerics import (
    MAX_LOG_RATIO,
    NEAR,
    below_one,
    expm1_minus_argument,
)


class Categorical(NamedTuple):
    """Logits [n, k, m] of k choices among at most m options."""

    logits: Float[Tensor, "n k m"]

    @classmethod
    def from_network(
        cls, head: Head, outputs: Float[Tensor, "n outputs"], log_std: None = None
    ) -> "Categorical":
        """Outputs of the network are the logits of all choices in turn."""
        return cls(_by_choice(head, outputs, MASKED))

    def masked(self, head: Head, mask: Float[Tensor, "n options"]) -> "Categorical":
        """Without the options where `mask` is 0, as if those were missing."""
        allowed = _by_choice(head, mask, 0.0) > 0
        return self._replace(logits=torch.where(allowed, self.logits, MASKED))

    def log_probabilities(self) -> Float[Tensor, "n k m"]:
        """Logarithm of each option's probability."""
        return torch.log_softmax(self.logits, -1)

    def log_prob(self, actions: Float[Tensor, "n k"]) -> Float[Tensor, "n 1"]:
        """Log-probability of `actions`, nats."""
        return _chosen(self.log_probabilities(), actions).sum(-1, keepdim=True)

    def log_ratio(
        self, new: "Categorical", actions: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n 1"]:
        """log(new / old probability) of `actions`, exact for tiny differences."""
        return _chosen(_log_ratios(self, new), actions).sum(-1, keepdim=True)

    def entropy(self) -> Float[Tensor, "n 1"]:
        """Entropy, nats."""
        log_p = self.log_probabilities()
        return -(torch.exp(log_p) * log_p).sum((-2, -1))[:, None]

    def kl(self, new: "Categorical") -> Float[Tensor, "n 1"]:
        """KL(old || new), nats, accurate relative to itself however small.

        With d = log(new / old probability): sum p (exp(d) - 1 - d), whose terms are all
        positive; the added sum of p (exp(d) - 1) is zero.
        """
        p = torch.exp(self.log_probabilities())
        d = _log_ratios(self, new).clamp(max=MAX_LOG_RATIO)
        return (p * expm1_minus_argument(d)).sum((-2, -1))[:, None]

    def sample(self, noise: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Actions from uniform `noise` in [0, 1), by inversion."""
        p = torch.exp(self.log_probabilities())
        cumulative = _cumulative(p)
        # Below the whole sum, after rounding too: some option's sum exceeds it.
        threshold = below_one(noise)[..., None] * cumulative[..., -1:]
        return (cumulative <= threshold).sum(-1).to(noise.dtype)

    def mode(self) -> Float[Tensor, "n k"]:
        """The most probable actions; of equals, the first."""
        logits = self.logits
        return torch.argmax(logits, -1).to(logits.dtype)

    def fisher_metric(self, tangent: "Categorical") -> "Categorical":
        """The mean Fisher matrix over rows, in the logits, times a tangent.

        It is diag(p) - p p' for each sample and choice.
        """
        p = torch.exp(self.log_probabilities())
        centered = tangent.logits - (p * tangent.logits).sum(-1, keepdim=True)
        return self._replace(logits=p * centered / p.shape[0])


def _cumulative(p: Float[Tensor, "n k m"]) -> Float[Tensor, "n k m"]:
    """Sums of the first options' probabilities, up to and with each."""
    if p.is_cpu or not torch.are_deterministic_algorithms_enabled():
        return torch.cumsum(p, -1)
    # Of floats on a GPU, `cumsum` has no deterministic kernel and is refused.
    return torch.stack([*itertools.accumulate(p.unbind(-1))], -1)


def _by_choice(
    head: Head, outputs: Float[Tensor, "n outputs"], fill: float
) -> Float[Tensor, "n k m"]:
    """Outputs of all choices in turn, apart; missing options are `fill`."""
    sizes, widest = head.action_sizes, max(head.action_sizes)
    if min(sizes) == widest:
        return outputs.reshape(-1, len(sizes), widest)
    parts = [
        functional.pad(part, (0, widest - part.shape[1]), value=fill)
        for part in outputs.split(sizes, 1)
    ]
    return torch.stack(parts, 1)


def _chosen(
    values: Float[Tensor, "n k m"], actions: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    return values.gather(-1, actions.long()[..., None])[..., 0]


def _log_ratios(old: Categorical, new: Categorical) -> Float[Tensor, "n k m"]:
    """log(new / old probability) of every option.

    With p the old probabilities and c the change of the logits less its mean over p:
    c - log(sum p exp(c)), and the sum is 1 + sum p (exp(c) - 1).
    """
    p = torch.exp(old.log_probabilities())
    change = new.logits - old.logits
    change = change - (p * change).sum(-1, keepdim=True)
    small = (change.abs() * (p > 0)).amax(-1, keepdim=True) <= NEAR
    # Both branches of `where` are differentiated: keep each finite everywhere.
    near = torch.where(small & (p > 0), change, 0.0)
    normalizer = torch.log1p((p * torch.expm1(near)).sum(-1, keepdim=True))
    far = new.log_probabilities() - old.log_probabilities()
    return torch.where(small, change - normalizer, far)
