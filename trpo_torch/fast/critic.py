"""The critic's loss and its gradient by hand."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trpo_torch.critic.fit import Regression, Samples
from trpo_torch.devices import reduction
from trpo_torch.fast import mlp
from trpo_torch.networks.feedforward import layers_of


def loss_and_gradient(
    regression: Regression, theta: Float[Tensor, " p"], gradient: Float[Tensor, " p"]
) -> Callable[[Samples], Tensor]:
    """As `critic.fit.loss_and_gradient`, of a critic whose slopes `mlp.py` has."""
    layers, into = (layers_of(regression.views(flat)) for flat in (theta, gradient))
    critic: Any = regression.critic
    activation = critic.architecture.activation

    @torch.no_grad()
    def loss(samples: Samples) -> Tensor:
        *inputs, values = mlp.forward(layers, samples.inputs, activation)
        errors = samples.errors(values)
        cotangent = errors * (2.0 * reduction.row_weight(len(errors)))
        mlp.vjp(layers, inputs, cotangent, into, activation)
        return samples.mean(errors**2)

    return loss


def values(critic: Any, inputs: Float[Tensor, "n in_"]) -> Float[Tensor, "n 1"]:
    """The critic's values; called where there is no gradient to be made."""
    layers = layers_of(list(critic.parameters()))
    return mlp.forward(layers, inputs, critic.architecture.activation)[-1]
