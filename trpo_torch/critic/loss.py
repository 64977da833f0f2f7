"""The critic's loss, the mean squared error of its values, and its gradient."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trpo_torch.devices import reduction
from trpo_torch.devices.reduction import Shard


class Samples(NamedTuple):
    """Inputs of a critic and the returns that its values are to be.

    Attributes:
        inputs: observations, or `trpo.data.batch.Sequences`.
        returns: of each, [n, 1] or [T, B, 1].
        valid: 1 where an entry is a sample, else 0; None where all are.
        shard: what they are of all samples, where other devices have more; else None.
    """

    inputs: Any
    returns: Tensor
    valid: Tensor | None = None
    shard: Shard | None = None

    def errors(self, values: Tensor) -> Tensor:
        """Values less returns; 0 where an entry is no sample."""
        errors = values - self.returns
        return errors if self.valid is None else self.valid * errors

    def mean(self, terms: Tensor) -> Float[Tensor, ""]:
        """Mean over the samples of terms that are 0 elsewhere; 0 if there are none."""
        if self.valid is None:
            return reduction.mean(terms)
        return terms.sum() / self.valid.sum().clamp(min=1.0)


class Regression(NamedTuple):
    """A critic's fit to one batch.

    Attributes:
        critic: the module, whose parameters are changed.
        values: (parameters in their order, inputs) -> values, shaped like the returns.
        minibatches: of each gradient step, as the epochs' orders have them.
    """

    critic: nn.Module
    values: Callable[[Sequence[Tensor], Any], Tensor]
    minibatches: Iterable[Samples]

    def views(self, flat: Float[Tensor, " p"]) -> list[Tensor]:
        """Pieces of a vector, shaped like the critic's parameters."""
        parameters = list(self.critic.parameters())
        pieces = flat.split([parameter.numel() for parameter in parameters])
        return [p.view_as(like) for p, like in zip(pieces, parameters, strict=True)]


def loss_and_gradient(
    regression: Regression, theta: Float[Tensor, " p"], gradient: Float[Tensor, " p"]
) -> Callable[[Samples], Tensor]:
    """Samples -> mean loss at flat parameters, its gradient put in `gradient`.

    `theta` is read at each call, so it may change in place.
    """
    leaves = [piece.detach().requires_grad_() for piece in regression.views(theta)]

    @torch.enable_grad()
    def loss(samples: Samples) -> Tensor:
        errors = samples.errors(regression.values(leaves, samples.inputs))
        mean_loss = samples.mean(errors**2)
        pieces = torch.autograd.grad(
            mean_loss, leaves, allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            torch.cat([piece.reshape(-1) for piece in pieces], out=gradient)
        return mean_loss.detach()

    return loss
