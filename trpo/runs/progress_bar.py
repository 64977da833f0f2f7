"""Live progress of a training run in the terminal."""

import time

from trpo.common.terminal import Terminal
from trpo.data.report import StepStatus
from trpo.training.progress import Progress


# Seconds between lines where output is no terminal, a log file for example.
LINE_INTERVAL = 10.0


class ProgressDisplay:
    """A live bar with steps, speed, time left, return, KL and status.

    Where standard output is no terminal it prints a line every ten seconds instead.
    """

    def __init__(self, terminal: Terminal, total_steps: int, done_steps: int) -> None:
        self._terminal = terminal
        self._total = total_steps
        self._started = time.monotonic()
        self._first_step = done_steps
        self._last_line = 0.0
        self._bar = terminal.bar(total_steps, done_steps)
        self._done, self._steps, self._last_sign = done_steps, 0, time.monotonic()

    def __enter__(self) -> "ProgressDisplay":
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__()

    def show(self, progress: Progress) -> None:
        """Show the state after an update."""
        note = self._note(progress)
        self._bar.show(progress.step, note)
        now = time.monotonic()
        self._done, self._steps, self._last_sign = progress.step, 0, now
        if self._terminal.is_terminal:
            return
        if now - self._last_line >= LINE_INTERVAL or progress.step >= self._total:
            self._last_line = now
            share = f"{progress.step / self._total:.0%}"
            self._terminal.say(f"{progress.step:>9,} steps, {share:>4}  {note}")

    def stepping(self, steps: int) -> None:
        """Show that a rollout goes on, after so many of its environment steps."""
        now = time.monotonic()
        if now - self._last_sign < LINE_INTERVAL:
            return
        speed = (steps - self._steps) / (now - self._last_sign)
        self._last_sign, self._steps = now, steps
        note = f"rollout: {steps:,} steps so far, {max(speed, 0.0):,.0f} steps/s"
        if self._terminal.is_terminal:
            self._bar.show(self._done, note)
        else:
            self._terminal.say(note)

    def _note(self, progress: Progress) -> str:
        metrics = progress.metrics
        seconds = max(time.monotonic() - self._started, 1e-9)
        speed = (progress.step - self._first_step) / seconds
        recent = metrics.get("rollout/episode_return_mean")
        cost = metrics.get("rollout/episode_cost_mean")
        status = StepStatus(int(metrics["policy/status"]))
        # Of an update that made no step, why, in place of a KL of 0.
        step = f"KL {metrics['policy/kl']:.4f}"
        if status != StepStatus.ACCEPTED:
            step = status.name.lower().replace("_", " ")
        return (
            f"{speed:,.0f} steps/s  return "
            f"{'-' if recent is None else f'{recent:.1f}'}  "
            f"{'' if cost is None else f'cost {cost:.1f}  '}{step}"
        )


class EvaluationDisplay:
    """A line every ten seconds of an evaluation, on the way to its last episode's end.

    Args:
        terminal: Where to print.
        episodes: Of the evaluation.
    """

    def __init__(self, terminal: Terminal, episodes: int) -> None:
        self._terminal, self._episodes = terminal, episodes
        self._started = self._last_line = time.monotonic()

    def show(self, ended: int, longest: int, steps: int) -> None:
        """Show the state before a step, after `steps` of all episodes."""
        now = time.monotonic()
        if now - self._last_line >= LINE_INTERVAL:
            self._last_line = now
            speed = steps / (now - self._started)
            self._terminal.say(
                f"evaluation: {ended:,} of {self._episodes:,} episodes have ended, "
                f"others are at step {longest:,}, {speed:,.0f} steps/s"
            )
