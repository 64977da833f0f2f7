"""Progress of a training after each update."""

from collections.abc import Callable
from typing import NamedTuple

from trpo.config.agent import StepNumbers
from trpo.data.report import METRIC_NAMES
from trpo.data.rollout import Rollout


class AfterUpdate(NamedTuple):
    """What a loop knows after an update, of which its metrics are made.

    Attributes:
        episodes: ended so far.
        recent: mean raw return and mean length of the newest 100; None before the
            first has ended.
        return_scale: divisor of rewards.
        advantage_std: of this batch, before it was normalised, in scaled returns.
        numbers: of this update, by the schedules.
        steps_per_second: environment steps, over all environments.
        acting_seconds: of acting and stepping; None where one program does all.
        learning_seconds: likewise.
        rollout: the update's; None where it stays on the device.
        success_rate: of the newest 100 episodes that told; None where none has.
    """

    episodes: int
    recent: tuple[float, float] | None
    return_scale: float
    advantage_std: float
    numbers: StepNumbers
    steps_per_second: float
    acting_seconds: float | None = None
    learning_seconds: float | None = None
    rollout: Rollout | None = None
    success_rate: float | None = None


# Name -> value, of each loop; None where it has none.
LOOP_METRICS: dict[str, Callable[[AfterUpdate], float | None]] = {
    "rollout/episode_return_mean": lambda now: now.recent and now.recent[0],
    "rollout/episode_length_mean": lambda now: now.recent and now.recent[1],
    "rollout/success_rate": lambda now: now.success_rate,
    "rollout/episodes": lambda now: now.episodes,
    "rollout/return_scale": lambda now: now.return_scale,
    "rollout/advantage_std": lambda now: now.advantage_std,
    "policy/target_kl": lambda now: now.numbers.target_kl,
    "policy/entropy_coefficient": lambda now: now.numbers.entropy_coefficient,
    "value/learning_rate": lambda now: now.numbers.value_lr,
    # Compiled training drops and replaces nothing.
    "rollout/dropped_steps": lambda now: getattr(now.rollout, "dropped_steps", 0),
    "rollout/environment_restarts": lambda now: getattr(now.rollout, "restarts", 0),
    "time/steps_per_second": lambda now: now.steps_per_second,
    "time/acting_and_stepping_seconds": lambda now: now.acting_seconds,
    "time/learning_seconds": lambda now: now.learning_seconds,
}
COLUMNS = ("step", "update", *LOOP_METRICS, *METRIC_NAMES)
# Of an update after which an evaluation was due.
EVALUATION_COLUMNS = (
    "evaluation/return_mean",
    "evaluation/return_std",
    "time/evaluation_seconds",
)


def loop_metrics(now: AfterUpdate) -> dict[str, float]:
    """The metrics of a loop; those that have no value are left out."""
    values = {name: metric(now) for name, metric in LOOP_METRICS.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


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
