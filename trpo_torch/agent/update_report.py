"""The report of an update, from its two halves."""

from typing import Any

from trpo.data.report import DISCARDED_FIELDS, StepStatus, UpdateReport, report_fields
from trpo_torch.critic.value_update import ValueFit
from trpo_torch.devices.device import _to_numbers
from trpo_torch.policy_step.step import PolicyStep


def discard_unless(sound: bool, step: PolicyStep) -> PolicyStep:
    """The report's half of a step, of one that was not committed unless `sound`."""
    if sound:
        return step
    undone: dict[str, Any] = dict.fromkeys(DISCARDED_FIELDS, 0.0)
    undone["surrogate_after"] = step.surrogate_before
    return step._replace(status=StepStatus.NON_FINITE, **undone)


def report_of(step: PolicyStep, fit: ValueFit) -> UpdateReport:
    """One update's numbers."""
    return UpdateReport(**_to_numbers(report_fields(UpdateReport, step, fit)))
