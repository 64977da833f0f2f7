"""Runs several runs at a time, shows their progress, stops them on request."""

import concurrent.futures
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from rich.console import Console

from trpo.common.signals import stop_signals
from trpo.common.terminal import Bar, Terminal
from trpo.run_process import Stop, locked


# Seconds between looks at the runs' progress.
POLL_INTERVAL = 2.0
STOPPED, FAILED = 130, 1


class Spec(Protocol):
    """A run that can be made, stopped and continued; equal ones are one run."""

    @property
    def env_id(self) -> str:
        """Gymnasium id."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the run."""
        ...

    @property
    def steps(self) -> int:
        """Environment steps of the whole run."""
        ...

    def check(self, root: Path) -> None:
        """Raise ValueError if its directory is of another configuration."""

    def is_done(self, root: Path) -> bool:
        """Whether nothing is left to do."""
        ...

    def steps_done(self, root: Path) -> int:
        """Environment steps so far."""
        ...

    def run(self, root: Path, stop: Stop) -> bool:
        """Make or continue it; whether it is done. RuntimeError: it failed."""
        ...


AnySpec = TypeVar("AnySpec", bound=Spec)


def run_all(
    specs: Sequence[AnySpec],
    root: Path,
    workers: int,
    console: Console | None,
    on_done: Callable[[AnySpec], str],
) -> int:
    """Run what is not done, `workers` at a time; returns the exit status.

    The signals of `trpo.common.signals` let the present runs save and exit. A failed
    run is reported and does not keep the others from running.

    Args:
        specs: The runs, in order.
        root: Where run directories are.
        workers: Runs at a time.
        console: Where to print.
        on_done: Called with each run that is done, also with those that already were;
            returns a line to print.

    Returns:
        0, FAILED if a run failed, STOPPED if a signal came.

    Raises:
        ValueError: a run's directory is of another configuration, or in use.
    """
    terminal = Terminal(console)
    for spec in specs:
        spec.check(root)
    missing = [spec for spec in specs if not spec.is_done(root)]
    terminal.say(f"{len(specs) - len(missing)} of {len(specs)} runs are done already")
    for spec in specs:
        if spec not in missing:
            on_done(spec)
    one_at_a_time = threading.Lock()
    with (
        locked(root),
        stop_signals() as stop,
        terminal.bar(sum(spec.steps for spec in specs)) as bar,
        _watching(specs, root, bar),
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):

        def work(spec: AnySpec) -> bool:
            """Whether it did not fail."""
            try:
                if not stop.is_set() and spec.run(root, stop):
                    with one_at_a_time:
                        terminal.say(on_done(spec))
            except RuntimeError as error:
                terminal.error(error)
                return False
            return True

        succeeded = all(list(pool.map(work, missing)))
    if stop.is_set():
        terminal.say("stopped; everything is saved: the same command goes on")
        return STOPPED
    return 0 if succeeded else FAILED


@contextmanager
def _watching(specs: Sequence[Spec], root: Path, bar: Bar) -> Iterator[None]:
    """Show steps done of all runs until the block ends."""
    ended = threading.Event()

    def watch() -> None:
        before: dict[int, int] = {}
        while not ended.wait(POLL_INTERVAL):
            steps = {i: spec.steps_done(root) for i, spec in enumerate(specs)}
            running = [
                f"{specs[i].env_id} s{specs[i].seed} {done / specs[i].steps:.0%}"
                for i, done in steps.items()
                if before and done != before[i]
            ]
            before = steps
            bar.show(sum(steps.values()), ", ".join(running))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
