"""The report of an update, from its two halves."""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from trpo.data.report import (
    DISCARDED_COST_FIELDS,
    DISCARDED_FIELDS,
    StepStatus,
    report_fields,
)
from trpo_torch.critic.fit import ValueFit
from trpo_torch.devices.device import to_floats
from trpo_torch.policy_step.step import PolicyStep


Report = TypeVar("Report")


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
