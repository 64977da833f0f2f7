"""Real numbers and choices in one action (`Tuple`, `Dict`): Gaussian and categorical.

The parts are independent given the state, so log-probability, entropy and KL add, and
the Fisher matrix is block-diagonal. An action [n, act_dim] has the real entries first,
then the choices; so have the network's outputs.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo.spaces.action_heads import Head
from trpo_torch.distributions.categorical import Categorical
from trpo_torch.distributions.gaussian import DiagonalGaussian


class Mixed(NamedTuple):
    """Mean [n, reals], log_std [n or 1, reals] and choices' logits [n, k, m]."""

    mean: Float[Tensor, "n reals"]
    log_std: Float[Tensor, "m reals"]
    logits: Float[Tensor, "n k m"]

    @classmethod
    def from_network(
        cls,
        head: Head,
        outputs: Float[Tensor, "n outputs"],
        log_std: Float[Tensor, " reals"] | None,
    ) -> "Mixed":
        """The Gaussian of the first outputs, the choices of the others."""
        real = head.real_outputs
        return cls(
            *DiagonalGaussian.from_network(head, outputs[:, :real], log_std),
            *Categorical.from_network(head, outputs[:, real:]),
        )

    def masked(self, head: Head, mask: Float[Tensor, "n options"]) -> "Mixed":
        """Without the options where `mask` is 0, as if those were missing."""
        reals, choices = self._parts()
        return type(self)(*reals, *choices.masked(head, mask))

    def log_prob(self, actions: Float[Tensor, "n act_dim"]) -> Float[Tensor, "n 1"]:
        """Log-density of the reals plus log-probability of the choices, nats."""
        (reals, choices), (x, options) = self._parts(), self._split(actions)
        return reals.log_prob(x) + choices.log_prob(options)

    def log_ratio(
        self, new: "Mixed", actions: Float[Tensor, "n act_dim"]
    ) -> Float[Tensor, "n 1"]:
        """log(new / old) of `actions`, exact for tiny differences."""
        (before, choices_before), (after, choices_after) = self._parts(), new._parts()
        x, options = self._split(actions)
        of_reals = before.log_ratio(after, x)
        return of_reals + choices_before.log_ratio(choices_after, options)

    def entropy(self) -> Float[Tensor, "n 1"]:
        """Differential entropy of the reals plus entropy of the choices, nats."""
        reals, choices = self._parts()
        return reals.entropy() + choices.entropy()

    def kl(self, new: "Mixed") -> Float[Tensor, "n 1"]:
        """KL(old || new), nats, accurate relative to itself however small."""
        (before, choices_before), (after, choices_after) = self._parts(), new._parts()
        of_reals = before.kl(after)
        return of_reals + choices_before.kl(choices_after)

    def sample(self, noise: Float[Tensor, "n act_dim"]) -> Float[Tensor, "n act_dim"]:
        """Actions from standard normal noise for the reals, uniform for the choices."""
        (reals, choices), (normal, uniform) = self._parts(), self._split(noise)
        parts = (reals.sample(normal), choices.sample(uniform))
        return torch.cat([*parts], 1)

    def mode(self) -> Float[Tensor, "n act_dim"]:
        """The most likely actions: means, and the most probable options."""
        reals, choices = self._parts()
        return torch.cat([reals.mode(), choices.mode()], 1)

    def fisher_metric(self, tangent: "Mixed") -> "Mixed":
        """The mean Fisher matrix over rows, block by block, times a tangent."""
        (reals, choices), (u, v) = self._parts(), tangent._parts()
        return type(self)(*reals.fisher_metric(u), *choices.fisher_metric(v))

    def _parts(self) -> tuple[DiagonalGaussian, Categorical]:
        return DiagonalGaussian(self.mean, self.log_std), Categorical(self.logits)

    def _split(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """The columns of the reals, and those of the choices."""
        reals = self.mean.shape[1]
        return columns[:, :reals], columns[:, reals:]
