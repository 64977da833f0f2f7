"""Surrogate objective and mean KL (Schulman et al. 2015, eqs. 13 and 14)."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch
from trpo_torch.devices import reduction
from trpo_torch.distributions import Distribution


class Surrogate(NamedTuple):
    """Surrogate objective and the importance weights in it.

    Attributes:
        value: [] mean of ratio times advantage.
        ratio: [n, 1] density now over density when the action was taken.
        log_ratio: [n, 1] its logarithm.
    """

    value: Float[Tensor, ""]
    ratio: Float[Tensor, "n 1"]
    log_ratio: Float[Tensor, "n 1"]


def surrogate(distribution: Distribution, batch: Batch) -> Surrogate:
    """L = mean(exp(log_prob - old_log_prob) * advantage)."""
    log_ratio = distribution.log_prob(batch.actions) - batch.log_probs
    ratio = torch.exp(log_ratio)
    return Surrogate(reduction.mean(ratio * batch.advantages), ratio, log_ratio)


def surrogate_improvement(
    old: Distribution, new: Distribution, batch: Batch, old_ratio: Tensor
) -> Float[Tensor, ""]:
    """L(new) - L(old) as one mean of differences, exact for tiny steps.

    Args:
        old: Policy at the old parameters.
        new: Policy at the candidate's parameters.
        batch: Samples.
        old_ratio: [n, 1] ratio at the old parameters; 1 where log-probs are fresh.
    """
    log_ratio = old.log_ratio(new, batch.actions)
    gains = old_ratio * torch.expm1(log_ratio) * batch.advantages
    return reduction.mean(gains)


def mean_kl(old: Distribution, new: Distribution) -> Float[Tensor, ""]:
    """Mean over samples of KL(old || new), nats."""
    return reduction.mean(old.kl(new))


@functools.singledispatch
@torch.enable_grad()
def gradient_of(
    policy: Callable[..., Distribution],
    function: Callable[[Distribution], Tensor],
    *at: Tensor,
) -> tuple[Distribution, tuple[Tensor, ...]]:
    """The distribution at these tensors, and the gradients of a number made of it.

    Args:
        policy: Of tensors; a policy's is of theta [p]. What has
            another way (`fast/`) registers it here.
        function: Distribution -> number; may depend on some of its parameters alone.
        at: The tensors.
    """
    at = tuple(tensor.detach().requires_grad_() for tensor in at)
    outputs = policy(*at)
    found = torch.autograd.grad(
        function(outputs), at, allow_unused=True, materialize_grads=True
    )
    return outputs._make(field.detach() for field in outputs), found


class Objective(NamedTuple):
    """An objective for a policy step to improve.

    Attributes:
        value: as `surrogate`.
        improvement: as `surrogate_improvement`.
    """

    value: Callable[[Distribution, Batch], Surrogate]
    improvement: Callable[[Distribution, Distribution, Batch, Tensor], Tensor]


SURROGATE = Objective(surrogate, surrogate_improvement)


def with_entropy(coefficient: float) -> Objective:
    """The surrogate plus `coefficient` times the mean entropy."""

    def value(distribution: Distribution, batch: Batch) -> Surrogate:
        found = surrogate(distribution, batch)
        bonus = coefficient * reduction.mean(distribution.entropy())
        return found._replace(value=found.value + bonus)

    def improvement(
        old: Distribution, new: Distribution, batch: Batch, old_ratio: Tensor
    ) -> Tensor:
        gain = surrogate_improvement(old, new, batch, old_ratio)
        # Row by row: the difference of two means would lose digits.
        change = new.entropy() - old.entropy()
        return gain + coefficient * reduction.mean(change)

    return Objective(value, improvement)


def objective_of(options: StepOptions, numbers: StepNumbers) -> Objective:
    """The objective that these settings ask for."""
    coefficient = numbers.entropy_coefficient
    return with_entropy(coefficient) if options.with_entropy else SURROGATE
