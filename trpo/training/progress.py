"""Progress of a training after each update."""

from typing import NamedTuple

from trpo.data.report import METRIC_NAMES


LOOP_METRICS = (
    "rollout/episode_return_mean",
    "rollout/episode_length_mean",
    "rollout/success_rate",
    "rollout/episodes",
    "rollout/return_scale",
    "rollout/advantage_std",
    "policy/target_kl",
    "rollout/dropped_steps",
    "rollout/environment_restarts",
    "time/steps_per_second",
    "time/acting_and_stepping_seconds",
    "time/learning_seconds",
)
COLUMNS = ("step", "update", *LOOP_METRICS, *METRIC_NAMES)


class Progress(NamedTuple):
    """State of a run after an update.

    Attributes:
        update: updates done.
        step: environment steps done, over all environments.
        metrics: this update's metrics.
    """

    update: int
    step: int
    metrics: dict[str, float]
