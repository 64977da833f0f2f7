"""Runs several runs at a time, shows their progress, stops them on request."""

import concurrent.futures
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.training_study_runs import (
    RunSpec,
    check,
    is_done,
    locked,
    run,
    steps_done,
)
from trpo.commands import stop_signals


# Seconds between looks at the runs' progress.
POLL_INTERVAL = 2.0
STOPPED, FAILED = 130, 1


def run_all(
    specs: Sequence[RunSpec],
    root: Path,
    workers: int,
    console: Console,
    on_done: Callable[[RunSpec], str],
) -> int:
    """Run what is not done, `workers` at a time; returns the exit status.

    SIGINT and SIGTERM let the present runs save and exit. A failed run is reported and
    does not keep the others from running.

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
    for spec in specs:
        check(spec, root)
    missing = [spec for spec in specs if not is_done(spec, root)]
    console.print(f"{len(specs) - len(missing)} of {len(specs)} runs are done already")
    for spec in specs:
        if spec not in missing:
            on_done(spec)
    one_at_a_time = threading.Lock()
    with (
        locked(root),
        stop_signals() as stop,
        _watching(specs, root, console),
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):

        def work(spec: RunSpec) -> bool:
            """Whether it did not fail."""
            try:
                if not stop.is_set() and run(spec, root, stop):
                    with one_at_a_time:
                        console.print(on_done(spec), highlight=False)
            except RuntimeError as error:
                console.print(str(error), style="red", markup=False)
                return False
            return True

        succeeded = all(list(pool.map(work, missing)))
    if stop.is_set():
        console.print("stopped; everything is saved: the same command goes on")
        return STOPPED
    return 0 if succeeded else FAILED


@contextmanager
def _watching(specs: Sequence[RunSpec], root: Path, console: Console) -> Iterator[None]:
    """Show steps done of all runs until the block ends, in a terminal only."""
    ended = threading.Event()
    bar = Progress(
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} steps"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:.1f} %"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task("", total=sum(spec.steps for spec in specs), note="")

    def watch() -> None:
        before: dict[RunSpec, int] = {}
        while not ended.wait(POLL_INTERVAL):
            steps = {spec: steps_done(spec, root) for spec in specs}
            running = [
                f"{spec.env_id} s{spec.seed} {done / spec.steps:.0%}"
                for spec, done in steps.items()
                if before and done != before[spec]
            ]
            before = steps
            bar.update(task, completed=sum(steps.values()), note=", ".join(running))

    thread = threading.Thread(target=watch, daemon=True)
    with bar:
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
