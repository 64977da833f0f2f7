"""Live progress of a training run in the terminal."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as Bar,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from trpo.training import Progress
from trpo.types import StepStatus


# Seconds between lines where output is no terminal, a log file for example.
LINE_INTERVAL = 10.0


class ProgressDisplay:
    """A live bar with steps, speed, time left, return, KL and status.

    Where standard output is no terminal it prints a line every ten seconds instead.
    """

    def __init__(self, console: Console, total_steps: int, done_steps: int) -> None:
        self._console = console
        self._total = total_steps
        self._started = time.monotonic()
        self._first_step = done_steps
        self._last_line = 0.0
        self._bar = Bar(
            TextColumn("[bold]steps"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._task = self._bar.add_task("", total=total_steps, note="")
        self._bar.update(self._task, completed=done_steps)

    def __enter__(self) -> "ProgressDisplay":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Show the state after an update."""
        note = self._note(progress)
        if self._console.is_terminal:
            self._bar.update(self._task, completed=progress.step, note=note)
            return
        now = time.monotonic()
        if now - self._last_line >= LINE_INTERVAL or progress.step >= self._total:
            self._last_line = now
            self._console.print(
                f"{progress.step:>9,} of {self._total:,} steps  {note}", highlight=False
            )

    def _note(self, progress: Progress) -> str:
        metrics = progress.metrics
        seconds = max(time.monotonic() - self._started, 1e-9)
        speed = (progress.step - self._first_step) / seconds
        recent = metrics.get("rollout/episode_return_mean")
        cost = metrics.get("rollout/episode_cost_mean")
        status = StepStatus(int(metrics["policy/status"]))
        return (
            f"{speed:,.0f} steps/s  return "
            f"{'-' if recent is None else f'{recent:.1f}'}  "
            f"{'' if cost is None else f'cost {cost:.1f}  '}"
            f"KL {metrics['policy/kl']:.4f}  {status.name.lower()}"
        )
