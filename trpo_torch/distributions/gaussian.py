"""Diagonal Gaussian in closed form, free of cancellation.

`parameters` are the mean [n, act_dim] and the log standard deviation, [1, act_dim] or
[n, act_dim]; all sums are over action dimensions, so every result is joint.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo.spaces.action_heads import LOG_STD_MAX, LOG_STD_MIN, Head
from trpo_torch.distributions.numerics import expm1_minus_argument


class DiagonalGaussian(NamedTuple):
    """Mean [n, act_dim] and log standard deviation, [1, act_dim] or [n, act_dim]."""

    mean: Float[Tensor, "n act_dim"]
    log_std: Float[Tensor, "m act_dim"]

    @classmethod
    def from_network(
        cls,
        head: Head,
        outputs: Float[Tensor, "n outputs"],
        log_std: Float[Tensor, " act_dim"] | None,
    ) -> "DiagonalGaussian":
        """Mean and clamped log_std of what the policy puts out.

        A free `log_std` is the same for each row; without one, the second half of the
        outputs is each row's own.
        """
        if log_std is None:
            mean, log_std = outputs.chunk(2, 1)
            return cls(mean, clamp_log_std(log_std))
        return cls(outputs, clamp_log_std(log_std)[None])

    def log_prob(self, actions: Float[Tensor, "n act_dim"]) -> Float[Tensor, "n 1"]:
        """Log-density of `actions`, nats."""
        z = (actions - self.mean) * torch.exp(-self.log_std)
        terms = -0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)
        return terms.sum(-1, keepdim=True)

    def log_ratio(
        self, new: "DiagonalGaussian", actions: Float[Tensor, "n act_dim"]
    ) -> Float[Tensor, "n 1"]:
        """log(new density / old density) of `actions`, exact for tiny differences.

        With d = log_std_new - log_std_old, z = (action - mean) / std:
        log ratio = -(z_new - z_old)(z_new + z_old) / 2 - d, and
        z_new - z_old = expm1(-d) z_old - (mean_new - mean_old) / std_new.
        """
        d = new.log_std - self.log_std
        z_old = (actions - self.mean) * torch.exp(-self.log_std)
        change = torch.expm1(-d) * z_old - (new.mean - self.mean) * torch.exp(
            -new.log_std
        )
        terms = -0.5 * change * (2.0 * z_old + change) - d
        return terms.sum(-1, keepdim=True)

    def entropy(self) -> Float[Tensor, "m 1"]:
        """Differential entropy, nats; one row where log_std has one."""
        terms = self.log_std + 0.5 * (1.0 + math.log(2 * math.pi))
        return terms.sum(-1, keepdim=True)

    def kl(self, new: "DiagonalGaussian") -> Float[Tensor, "n 1"]:
        """KL(old || new), nats, accurate relative to itself however small.

        Per dimension, with d = log_std_new - log_std_old and
        z = (mean_new - mean_old) / std_new: (expm1(-2d) + 2d + z²) / 2.
        The usual formula subtracts numbers near 1 and is all rounding error below 1e-7.
        """
        d = new.log_std - self.log_std
        z = (new.mean - self.mean) * torch.exp(-new.log_std)
        return (0.5 * (expm1_minus_argument(-2.0 * d) + z**2)).sum(-1, keepdim=True)

    def sample(self, noise: Float[Tensor, "n act_dim"]) -> Float[Tensor, "n act_dim"]:
        """Actions from standard normal `noise`."""
        return self.mean + torch.exp(self.log_std) * noise

    def mode(self) -> Float[Tensor, "n act_dim"]:
        """The most likely actions: the mean."""
        return self.mean

    def fisher_metric(self, tangent: "DiagonalGaussian") -> "DiagonalGaussian":
        """The mean Fisher matrix over rows, in (mean, log_std), times a tangent.

        It is diag(1 / std², 2) for each sample and dimension; the mean over n samples
        gives each row of `mean` the weight 1/n and a shared row of log_std weight 1.
        """
        return self._replace(
            mean=tangent.mean * torch.exp(-2.0 * self.log_std) / self.mean.shape[0],
            log_std=2.0 * tangent.log_std / self.log_std.shape[0],
        )


def clamp_log_std(log_std: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`log_std` in [-20, 2], gradient 1 inside and at the bounds, 0 outside."""
    return log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
