"""What an update is made of: how it differentiates, and its report."""

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from trpo.data.report import (
    DISCARDED_COST_FIELDS,
    DISCARDED_FIELDS,
    StepStatus,
    report_fields,
)
from trpo_torch.critic.fit import ValueFit
from trpo_torch.devices.device import to_floats
from trpo_torch.distributions import Distribution
from trpo_torch.fast.mlp import has_slopes
from trpo_torch.fast.policy import FastPolicy
from trpo_torch.networks.feedforward import Critic, Policy
from trpo_torch.policy_step.chunked import ChunkedPolicy
from trpo_torch.policy_step.fisher import PolicyFunction
from trpo_torch.policy_step.step import PolicyStep


Report = TypeVar("Report")


def is_fast(asked: str, network: nn.Module, device: torch.device) -> bool:
    """Whether `fast/` differentiates a network.

    Args:
        asked: `TRPOConfig.fast_products`.
        network: Policy or critic.
        device: That it is on.

    Raises:
        ValueError: "on" is asked for, and it can't.
    """
    known = isinstance(network, Policy | Critic) and has_slopes(network.architecture)
    possible = known and device.type == "cpu"
    if asked == "on" and not possible:
        raise ValueError(
            "`fast_products`: expected 'auto' or 'off' for a "
            f"{type(network).__name__} on {str(device)!r}, got 'on'. There are "
            "derivatives by hand of layers with tanh, relu or elu alone, without "
            "layer_norm and images, on a CPU."
        )
    return possible and asked != "off"


def policy_function(
    policy: Any,
    obs: Float[Tensor, "n obs_dim"],
    mask: Tensor | None = None,
    rows: int | None = None,
    fast: bool = False,
) -> PolicyFunction:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Args:
        policy: A `Policy`, or any module that is called alike; its weights are left
            alone.
        obs: [n, obs_dim] observations.
        mask: [n, options] 0 where an option can't be taken; None for no mask.
        rows: At most so many at a time; None for all.
        fast: Differentiated by hand.
    """
    if rows is not None and len(obs) > rows:
        of_rows = functools.partial(policy_function, policy, fast=fast)
        return ChunkedPolicy(of_rows, obs, mask, rows)
    if fast:
        return FastPolicy(policy, obs, mask)
    shapes = {name: p.shape for name, p in policy.named_parameters()}

    def apply(theta: Tensor) -> Distribution:
        pieces = theta.split([shape.numel() for shape in shapes.values()])
        named = {
            name: piece.view(shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }
        return functional_call(policy, named, (obs, mask))

    return apply


def discard_unless(sound: bool, step: PolicyStep) -> PolicyStep:
    """A step's numbers as they are reported: zeros unless it was `sound`, and kept."""
    if sound:
        return step
    undone: dict[str, Any] = dict.fromkeys(DISCARDED_FIELDS, 0.0)
    undone["surrogate_after"] = step.surrogate_before
    if step.costs is not None:
        zeros: dict[str, Any] = dict.fromkeys(DISCARDED_COST_FIELDS, 0.0)
        undone["costs"] = step.costs._replace(**zeros)
    return step._replace(status=StepStatus.NON_FINITE, **undone)


def report_of(kind: type[Report], step: Any, fit: ValueFit) -> Report:
    """One update's numbers.

    Args:
        kind: `UpdateReport`, or another of whose fields there is to be a number each.
        step: The step, which has the fields that are not the fit's.
        fit: The critic's.
    """
    return kind(**_numbers(report_fields(kind, step, fit)))


def _numbers(fields: Mapping[str, Any]) -> dict[str, float]:
    """Fields, tensors [] among them, as Python's numbers, in one transfer."""
    tensors = {name: x for name, x in fields.items() if isinstance(x, Tensor)}
    numbers = dict(zip(tensors, to_floats(*tensors.values()), strict=True))
    return {name: float(value) for name, value in ({**fields, **numbers}).items()}
