"""Checkpoints of a run as it goes on, on a disk that may be full."""

from trpo.callbacks import Callbacks
from trpo.files import FileError
from trpo.run_directory import RunDirectory, RunDirectoryError, quoted_run
from trpo.terminal import Terminal
from trpo.training import Progress, Trainer


class Saver:
    """Writes checkpoints of a run; a disk that is full does not end it.

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
        self.trainer, self.directory, self.terminal = trainer, directory, terminal
        self.asked = asked
        # Updates that the newest checkpoint has; None if there is none.
        self.saved = trainer.update_count or None

    @property
    def how_to_go_on(self) -> str:
        """The command that continues from what is saved."""
        if self.saved is None:
            return "nothing is saved yet"
        run = quoted_run(self.directory.path, self.trainer.config)
        return f"continue: trpo train --resume {run}"

    def save(self, progress: Progress | None = None) -> None:
        """Write a checkpoint, and tell the callbacks if they are given the progress."""
        try:
            note = {"callbacks": self.asked.get_state()}
            path = self.directory.save(self.trainer, note)
        except (OSError, FileError) as error:
            tell(self.terminal, "no checkpoint was written", error)
            return
        self.saved = self.trainer.update_count
        if progress is not None:
            self.asked.on_checkpoint(progress, path)

    def save_if_new(self, progress: Progress | None = None) -> None:
        """Write a checkpoint unless the newest one has this state."""
        if self.saved != self.trainer.update_count:
            self.save(progress)

    def save_last(self, progress: Progress | None) -> None:
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


def tell(terminal: Terminal, what: str, error: Exception) -> None:
    """Warn of what could not be written."""
    terminal.say(
        f"{what} ({error}): training goes on, what was saved before is kept, and the "
        "next time it is tried again",
        style="yellow",
    )
