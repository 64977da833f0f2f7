"""Reports of one update: status of the step, metrics of policy, critic and costs."""

import enum
from typing import Any, NamedTuple


class StepStatus(enum.IntEnum):
    """Outcome of the trust-region step of one update."""

    ACCEPTED = 0
    LINE_SEARCH_EXHAUSTED = 1
    NON_POSITIVE_CURVATURE = 2
    NON_FINITE = 3
    ZERO_GRADIENT = 4

    @property
    def message(self) -> str:
        """One or two sentences: outcome, state that was kept, advice."""
        return _MESSAGES[self]


_MESSAGES = {
    StepStatus.ACCEPTED: "The step improves the surrogate inside the trust region.",
    StepStatus.LINE_SEARCH_EXHAUSTED: (
        "No line-search candidate improved the surrogate inside the trust region: the "
        "policy is unchanged. Raise `backtrack_iters` or `cg_damping` if it recurs."
    ),
    StepStatus.NON_POSITIVE_CURVATURE: (
        "Conjugate gradient met p'Fp <= 0: the policy is unchanged. Raise `cg_damping`."
    ),
    StepStatus.NON_FINITE: (
        "Arithmetic overflowed: policy, critic, optimiser and random streams are "
        "unchanged. Scale returns and advantages, or use float64."
    ),
    StepStatus.ZERO_GRADIENT: (
        "The surrogate's gradient is zero: the policy is unchanged."
    ),
}


class UpdateReport(NamedTuple):
    """Metrics of one update; `METRIC_NAMES` gives each field's name in logs.

    "Before" and "after" refer to the policy step. `step_norm` and `expected_improve`
    are of the full step; `entropy` and the ratios are of the policy after the update;
    `value_loss` is the mean over the critic's gradient steps, and the critic's other
    numbers are taken after its fit. `cg_residual` is the norm of conjugate gradient's
    residual over that of the gradient: `cg_residual_tol` bounds its square.
    """

    surrogate_before: Any
    surrogate_after: Any
    improvement: Any
    kl: Any
    entropy: Any
    step_norm: Any
    expected_improve: Any
    line_search_frac: Any
    line_search_accepted: Any
    ratio_mean: Any
    ratio_std: Any
    old_approx_kl: Any
    value_loss: Any
    value_mae: Any
    explained_variance: Any
    cg_iterations: Any
    cg_residual: Any
    status: Any
    predicted_kl: Any
    agreement: Any

    def as_metrics(self) -> dict[str, float]:
        """The report under the field's standard metric names."""
        return dict(zip(METRIC_NAMES, map(float, self), strict=True))


# A report's field -> where the critic's fit has it; the others are the step's.
_OF_FIT = {
    "value_loss": "loss",
    "value_mae": "mae",
    "explained_variance": "explained_variance",
}


def report_fields(report: Any, step: Any, fit: Any) -> dict[str, Any]:
    """The fields of a kind of report from an update's halves, the step and the fit."""
    return {
        name: getattr(fit, _OF_FIT[name]) if name in _OF_FIT else getattr(step, name)
        for name in report._fields
    }


# Zero where the status is NON_FINITE, as nothing was committed.
DISCARDED_FIELDS = (
    "improvement",
    "kl",
    "line_search_frac",
    "line_search_accepted",
    "predicted_kl",
    "agreement",
)

METRIC_NAMES = (
    "policy/surrogate_before",
    "policy/surrogate_after",
    "policy/improvement",
    "policy/kl",
    "policy/entropy",
    "policy/step_norm",
    "policy/expected_improve",
    "policy/line_search_frac",
    "policy/line_search_accepted",
    "policy/ratio_mean",
    "policy/ratio_std",
    "policy/old_approx_kl",
    "loss/value",
    "value/mae",
    "value/explained_variance",
    "cg/iterations",
    "cg/residual",
    "policy/status",
    "policy/predicted_kl",
    "policy/agreement",
)


class StepKind(enum.IntEnum):
    """Which of three problems the step of a constrained update solves."""

    FREE = 0
    """The trust region's best step keeps the limit: it is TRPO's own."""
    BOUND = 1
    """The best step that also keeps the linearised limit, which it reaches."""
    RECOVERY = 2
    """No step in the trust region keeps it: the one that lowers the cost most."""


class CostReport(NamedTuple):
    """Metrics of one update's costs; `COST_METRICS` names its fields in logs.

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
    """Metrics of one constrained update."""

    policy: UpdateReport
    costs: CostReport

    @property
    def status(self) -> Any:
        """`trpo.data.report.StepStatus`."""
        return self.policy.status

    def as_metrics(self) -> dict[str, float]:
        """Both reports under their metric names."""
        cost_metrics = dict(zip(COST_METRICS, map(float, self.costs), strict=True))
        return self.policy.as_metrics() | cost_metrics
