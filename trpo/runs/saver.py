"""Checkpoints of a run as it goes on, on a disk that may be full."""

import abc
from pathlib import Path
from typing import Any

from trpo.callbacks.base import Callbacks
from trpo.callbacks.state import decoded_state, encoded_state
from trpo.common.files import FileError
from trpo.common.terminal import Terminal
from trpo.common.validation import shown
from trpo.config.run import TrainConfig
from trpo.data.report import StepStatus
from trpo.environments.lasting_state import not_restored
from trpo.runs.checkpoint import Checkpoint
from trpo.runs.directory import RunDirectory, RunDirectoryError, to_resume
from trpo.training.costs import cost_columns
from trpo.training.progress import COLUMNS, Progress
from trpo.training.trainer import Trainer


MOST_NAMED = 8


class Saves(abc.ABC):
    """When a run is saved, and that a disk that is full does not end it.

    Args:
        trainer: Whose updates are saved.
        terminal: Where to say what could not be written.
        command: That goes on with the run.
    """

    def __init__(self, trainer: Any, terminal: Terminal, command: str) -> None:
        self.trainer, self.terminal, self.command = trainer, terminal, command
        # Updates that the newest checkpoint has; None if there is none.
        self.saved: int | None = trainer.update_count or None

    @abc.abstractmethod
    def _write(self) -> Any:
        """Write what `_tell_callbacks` is then given."""

    @abc.abstractmethod
    def _tell_callbacks(self, progress: Any, written: Any) -> None: ...

    @property
    def how_to_go_on(self) -> str:
        """The command that continues from what is saved."""
        if self.saved is None:
            return "nothing is saved yet"
        return f"continue: {self.command}"

    def save(self, progress: Any = None) -> None:
        """Write a checkpoint, and tell the callbacks if they are given the progress."""
        try:
            written = self._write()
        except (OSError, FileError) as error:
            warn_of(self.terminal, "no checkpoint was written", error)
            return
        self.saved = self.trainer.update_count
        if progress is not None:
            self._tell_callbacks(progress, written)

    def save_if_new(self, progress: Any = None) -> None:
        """Write a checkpoint unless the newest one has this state."""
        if self.saved != self.trainer.update_count:
            self.save(progress)

    def save_last(self, progress: Any = None) -> None:
        """Write the run's last checkpoint.

        Raises:
            RunDirectoryError: it could not be written.
        """
        self.save_if_new(progress)
        if self.saved != self.trainer.update_count:
            raise RunDirectoryError(
                "`run_dir`: expected room for the last checkpoint, got none. Older "
                f"ones are as they were. Free some space, then {self.how_to_go_on}"
            )


class Saver(Saves):
    """Writes checkpoints of a run of one training.

    Args:
        trainer: Whose state is saved.
        directory: To write to.
        terminal: Where to say what could not be written.
        asked: Callbacks, told of each checkpoint; their state is part of it.
    """

    def __init__(
        self,
        trainer: Trainer,
        directory: RunDirectory,
        terminal: Terminal,
        asked: Callbacks,
    ) -> None:
        command = to_resume(directory.path, trainer.config)
        super().__init__(trainer, terminal, command)
        self.directory, self.asked = directory, asked
        self.due: Progress | None = None
        """The last update, as long as its evaluation, and so all that follows it, is
        still to come; part of a checkpoint, so that a resumed run makes up for it."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint that fits.

        Raises:
            ValueError: what it holds is no state of this run.
        """
        metrics = decoded_state(checkpoint.metadata.get("due"))
        if metrics is not None:
            _require_metrics(metrics, self.trainer.config)
        trainer = self.trainer
        lost = trainer.set_state(checkpoint.arrays)
        self.saved = trainer.update_count
        if metrics is not None:
            self.due = Progress(trainer.update_count, trainer.step_count, metrics)
        self.terminal.say(
            f"continuing from {checkpoint.path} at step {checkpoint.step:,}"
        )
        if lost:
            reasons = trainer.collector.lost
            listed = "; ".join(f"{i}: {reasons[i]}" for i in lost if i in reasons)
            self.terminal.say(
                f"environments {list(lost)} could not be restored in the middle of "
                f"their episodes and start new ones: {trainer.config.env_id} is not "
                f"restored exactly ({listed})",
                style="yellow",
            )
        self._name_what_lasted(checkpoint.metadata.get("lasting"))
        self.asked.set_state(checkpoint.metadata.get("callbacks", {}))

    def _name_what_lasted(self, saved: object) -> None:
        names = not_restored(saved, self.trainer.collector.replayed)
        if not names:
            return
        listed = ", ".join(f"`{shown(n)[1:-1]}`" for n in names[:MOST_NAMED])
        more = len(names) - MOST_NAMED
        self.terminal.say(
            f"not restored: {listed}{f' and {more} more' if more > 0 else ''}. What an "
            "environment keeps beyond its episode is in no checkpoint, and is as in a "
            "new one. If steps depend on it, the run is not what it would have been: "
            "have `reset` set it, or leave it out",
            style="yellow",
        )

    @property
    def complete(self) -> bool:
        """Whether all updates are made, and nothing that follows them is due."""
        trainer = self.trainer
        return self.due is None and trainer.update_count >= trainer.config.num_updates

    @property
    def logged_step(self) -> int:
        """Environment steps up to which metrics are written."""
        trainer = self.trainer
        return trainer.step_count - (trainer.steps_per_update if self.due else 0)

    def _write(self) -> Path:
        note: dict[str, Any] = {"callbacks": self.asked.get_state()}
        if self.due is not None:
            note["due"] = encoded_state("due", self.due.metrics)
        note["lasting"] = self.trainer.lasting()
        return self.directory.save(self.trainer, note)

    def _tell_callbacks(self, progress: Progress, written: Path) -> None:
        self.asked.on_checkpoint(progress, written)


def _require_metrics(metrics: Any, config: TrainConfig) -> None:
    """Refuse what are no metrics of an update."""
    known = {*COLUMNS, *cost_columns(config)}
    if not (
        isinstance(metrics, dict)
        and {"policy/kl", "policy/status"} <= metrics.keys() <= known
        and all(type(value) in (int, float) for value in metrics.values())
        and metrics["policy/status"] in list(StepStatus)
    ):
        raise ValueError(f"`due`: expected an update's metrics, got {shown(metrics)}.")


def warn_of(terminal: Terminal, what: str, error: Exception) -> None:
    """Warn of what could not be written."""
    terminal.say(
        f"{what} ({error}): training goes on, what was saved before is kept, and the "
        "next time it is tried again",
        style="yellow",
    )
