"""Data that flows between the loop and a backend, and the agent's interface."""

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from trpo.data.sequences import Memory


class StepStatus(enum.IntEnum):
    """Outcome of the trust-region step of one update."""

    ACCEPTED = 0
    LINE_SEARCH_EXHAUSTED = 1
    NON_POSITIVE_CURVATURE = 2
    NON_FINITE = 3
    ZERO_GRADIENT = 4

    @property
    def message(self) -> str:
        """What happened, what was kept, and what to do about it."""
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


class Rates(NamedTuple):
    """What a schedule may change from one update to the next.

    Attributes:
        target_kl: trust-region radius, nats.
        value_lr: learning rate of the critic's optimiser.
    """

    target_kl: Any
    value_lr: Any


class Batch(NamedTuple):
    """Samples of one update; N samples in any order.

    Attributes:
        obs: [N, obs_dim] observations; of a recurrent agent
            `trpo.data.sequences.Sequences`.
        actions: [N, act_dim] actions as sampled, before clipping to the bounds.
        log_probs: [N, 1] log-probability of each action when it was taken, nats.
        returns: [N, 1] regression targets of the critic; [T, B, 1] of a recurrent one.
        advantages: [N, 1] advantage estimates, normalised if at all by the loop.
        action_mask: [N, options] 1 where an option could be taken, else 0, in the
            order of `trpo.spaces.action_heads.Head.options`; None where nothing was
            forbidden.
    """

    obs: Any
    actions: Any
    log_probs: Any
    returns: Any
    advantages: Any
    action_mask: Any = None


class Rollout(NamedTuple):
    """Transitions of B environments over T steps, in order of time.

    Attributes:
        obs: [T, B, obs_dim] observation s_t, raw (not normalised).
        actions: [T, B, act_dim] action as sampled, before clipping to the bounds.
        log_probs: [T, B] log-probability of the action.
        values: [T, B] critic's V(s_t), in units of scaled return.
        next_values: [T, B] V(s_{t+1}), of the final observation where an episode ends.
        rewards: [T, B] raw rewards.
        terminated: [T, B] the episode ended in a terminal state.
        truncated: [T, B] the episode was cut off, by a time limit for example.
        valid: [T, B] False where an environment only reset itself (autoreset mode
            NEXT_STEP) and the entry is no transition.
        episodes: finished episodes in order of time.
        action_masks: [T, B, options] True where an option could be taken; None where
            the environment forbids nothing.
        starts: [T, B] True where s_t is the first observation of an episode.
        memory: a recurrent agent's hidden states when the rollout began; else None.
        dropped_steps: steps left out because their episode had numbers not finite.
        restarts: environments that failed and were replaced.
        costs: what only an agent with a limit on costs needs; else None.
        episode_steps: of each finished episode, the step that ended it.
    """

    obs: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    values: np.ndarray
    next_values: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    episodes: tuple["Episode", ...]
    action_masks: np.ndarray | None = None
    starts: np.ndarray | None = None
    memory: Memory | None = None
    dropped_steps: int = 0
    restarts: int = 0
    episode_steps: tuple[int, ...] = ()
    costs: "RolloutCosts | None" = None


class RolloutCosts(NamedTuple):
    """What the steps of a rollout cost, and what the cost critic says of them.

    Attributes:
        costs: [T, B] raw costs.
        values: [T, B] cost critic's V(s_t), in units of scaled cost.
        next_values: [T, B] V(s_{t+1}), of the final observation where an episode ends.
        open_cost: mean over environments of what the episodes under way after the
            rollout have cost so far.
        open_length: mean of their steps so far.
    """

    costs: np.ndarray
    values: np.ndarray
    next_values: np.ndarray
    open_cost: float
    open_length: float


class Episode(NamedTuple):
    """One finished episode: undiscounted raw return, number of steps, and cost."""

    episode_return: float
    length: int
    cost: float = 0.0


class UpdateReport(NamedTuple):
    """What one update did; `METRIC_NAMES` gives each field's name in logs.

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


class Agent(Protocol):
    """What the training loop needs of a backend."""

    obs_dim: int
    act_dim: int
    config: Any
    """Hyperparameters, a `trpo.config.run.TRPOConfig`."""

    @property
    def largest_observation(self) -> float:
        """Absolute value above which an observation is refused."""
        ...

    def act(
        self, obs: Any, deterministic: bool = False, action_mask: Any = None
    ) -> tuple[Any, Any, Any]:
        """Action [B, act_dim], log-probability [B, 1] and value [B, 1] for `obs`."""
        ...

    def value(self, obs: Any) -> Any:
        """Critic's value [B, 1] of `obs` [B, obs_dim]."""
        ...

    def update(
        self,
        batch: Mapping[str, Any],
        *,
        target_kl: float | None = None,
        value_lr: float | None = None,
    ) -> dict[str, float]:
        """Take one trust-region step and fit the critic; return the metrics."""
        ...

    def observe(self, obs: np.ndarray) -> None:
        """Add raw observations [..., obs_dim] to the running normalisation."""
        ...

    def snapshot(self) -> Any:
        """The present state, kept in memory, for `restore`."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Make every byte of the state what `snapshot` has kept."""
        ...

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that the next update depends on, under canonical names."""
        ...

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state`, of either backend."""
        ...
