"""Data of constrained updates: what they are given, and what they report."""

import enum
from typing import Any, NamedTuple

from trpo.data.types import Batch, UpdateReport


class StepKind(enum.IntEnum):
    """Which of three problems the step of a constrained update solves."""

    FREE = 0
    """The trust region's best step keeps the limit: it is TRPO's own."""
    BOUND = 1
    """The best step that also keeps the linearised limit, which it reaches."""
    RECOVERY = 2
    """No step in the trust region keeps it: the one that lowers the cost most."""


class Costs(NamedTuple):
    """What a constrained update knows of the costs of its N samples.

    Attributes:
        advantages: [N, 1] cost advantages, in units of scaled cost; centred, if at
            all, by the loop, but never divided: `excess` has the same units.
        returns: [N, 1] regression targets of the cost critic.
        excess: [] mean cost of a step beyond what the limit allows it, in the same
            units; below 0 where the limit is kept, -inf where there is none.
    """

    advantages: Any
    returns: Any
    excess: Any


class ConstrainedBatch(NamedTuple):
    """Samples of one constrained update: the fields of a `Batch`, and of `Costs`."""

    obs: Any
    actions: Any
    log_probs: Any
    returns: Any
    advantages: Any
    cost_advantages: Any
    cost_returns: Any
    cost_excess: Any
    action_mask: Any = None

    @classmethod
    def of(cls, samples: Batch, costs: Costs) -> "ConstrainedBatch":
        """The two put together."""
        fields = samples._asdict()
        named = {f"cost_{name}": field for name, field in costs._asdict().items()}
        return cls(**fields, **named)

    @property
    def samples(self) -> Batch:
        """All but the costs."""
        return Batch(*self[:5], action_mask=self.action_mask)

    @property
    def costs(self) -> Costs:
        """The costs alone."""
        return Costs(*self[5:8])


class CostReport(NamedTuple):
    """What one update did about costs; `COST_METRICS` names its fields in logs.

    Attributes:
        step_kind: `StepKind`; FREE where no step could be computed.
        change: of the cost surrogate by the step that was taken, scaled cost per step.
        predicted_change: the same by the linear model.
        kl_multiplier: lambda, gain in the surrogate for a nat of the trust region.
        cost_multiplier: nu, gain in the surrogate for a scaled cost per step.
        cg_iterations: products spent on the cost's direction.
        value_loss, value_mae, explained_variance: of the cost critic's fit.
    """

    step_kind: Any
    change: Any
    predicted_change: Any
    kl_multiplier: Any
    cost_multiplier: Any
    cg_iterations: Any
    value_loss: Any
    value_mae: Any
    explained_variance: Any


# Zero where the status is NON_FINITE, as nothing was committed.
DISCARDED_COST_FIELDS = ("change", "predicted_change")

COST_METRICS = (
    "cost/step_kind",
    "cost/surrogate_change",
    "cost/predicted_change",
    "cost/kl_multiplier",
    "cost/cost_multiplier",
    "cost/cg_iterations",
    "loss/cost_value",
    "cost/value_mae",
    "cost/explained_variance",
)


class ConstrainedReport(NamedTuple):
    """What one constrained update did."""

    policy: UpdateReport
    costs: CostReport

    @property
    def status(self) -> Any:
        """`trpo.data.types.StepStatus`."""
        return self.policy.status

    def as_metrics(self) -> dict[str, float]:
        """Both reports under their metric names."""
        own = dict(zip(COST_METRICS, map(float, self.costs), strict=True))
        return self.policy.as_metrics() | own
