"""Runs in processes of their own, several at a time: their progress, their end."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from rich.console import Console

from trpo.common.files import Folder
from trpo.common.signals import Stop, stop_signals
from trpo.common.terminal import Bar, Terminal, word


# Seconds between looks at the runs' progress, and at a run's process.
POLL_INTERVAL, PROCESS_INTERVAL = 2.0, 0.5
FAILED = 1
# Of a log that a failed run's last lines are looked for in.
LAST_BYTES = 4096


class Spec(Protocol):
    """A run that can be made, stopped and continued; equal ones are one run."""

    @property
    def short_name(self) -> str:
        """What the progress bar calls it."""
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


# Runs a command with its output in a file, and lets it save and exit once it is told to
# stop: `execute`, or the same for another machine.
Launch: TypeAlias = Callable[[list[str], Path, Stop], None]
AnySpec = TypeVar("AnySpec", bound=Spec)


def run_all(
    specs: Sequence[AnySpec],
    root: Path,
    workers: int,
    console: Console | None,
    on_done: Callable[[AnySpec], str],
) -> int:
    """Run what is not done, `workers` at a time; returns the exit status.

    Args:
        specs: The runs, in order.
        root: Where run directories are.
        workers: Runs at a time.
        console: Where to print.
        on_done: Called with each run that is done, also with those that already were;
            returns a line to print.

    Returns:
        See `run_each`.

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
    steps = sum(spec.steps for spec in specs)
    return run_each(iter(missing), specs, steps, root, workers, terminal, on_done)


def run_each(
    source: Iterator[AnySpec],
    specs: Sequence[AnySpec],
    steps: int,
    root: Path,
    workers: int,
    terminal: Terminal,
    on_done: Callable[[AnySpec], str],
) -> int:
    """Run what `source` has, asked anew whenever a worker is free.

    The signals of `trpo.common.signals` let the present runs save and exit. A failed
    run is reported and does not keep the others from running.

    Args:
        source: Runs that are to be made. Asked while the directory is locked, and by
            one thread at a time, which is never inside `on_done` meanwhile.
        specs: Runs whose progress is shown; `source` may append to it.
        steps: Environment steps of all runs.
        root: As of `run_all`, like the others.
        workers: Runs at a time.
        terminal: Where to print.
        on_done: Called with each run that is done; returns a line to print.

    Returns:
        0, FAILED if a run failed, 128 plus its number if a signal came.
    """
    turn = threading.Lock()
    with (
        locked(root),
        stop_signals() as stop,
        terminal.bar(steps) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):

        def work() -> bool:
            """Whether none has failed."""
            succeeded = True
            while True:
                with turn:
                    spec = None if stop.is_set() else next(source, None)
                if spec is None:
                    return succeeded
                try:
                    if spec.run(root, stop):
                        with turn:
                            terminal.say(on_done(spec))
                except RuntimeError as error:
                    terminal.error(error)
                    succeeded = False

        working = [pool.submit(work) for _ in range(workers)]
        _show_progress(working, specs, root, bar)
        succeeded = all(future.result() for future in working)
    if stop.is_set():
        terminal.say("stopped; everything is saved: the same command goes on")
        return stop.status
    return 0 if succeeded else FAILED


def _show_progress(
    working: list[Future], specs: Sequence[Spec], root: Path, bar: Bar
) -> None:
    """Show steps done of all runs until nobody is working."""
    before: list[int] = []
    while wait(working, POLL_INTERVAL).not_done:
        done = [spec.steps_done(root) for spec in specs]
        running = [
            f"{spec.short_name} {now / spec.steps:.0%}"
            for spec, now, then in zip(specs, done, before, strict=False)
            if now != then
        ]
        before = done
        bar.show(sum(done), ", ".join(running))


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep a second study from writing to the same run directories.

    Raises:
        FileError: a study is running there, or a run that outlived its study.
    """
    with Folder(root, make=True) as folder:
        # Runs hold the lock too: a killed study's runs go on, and end.
        os.set_inheritable(folder.lock(), True)
        yield


def execute(command: list[str], log: Path, stop: Stop) -> None:
    """Run a command with its output in `log`; let it save and exit on `stop`.

    Raises:
        RuntimeError: it failed; a note has its last lines.
    """
    # One thread: the networks are small, and threads that wait for each other on a
    # busy machine make PyTorch tens of times slower.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XLA_FLAGS": flags}
    with Folder(log.parent) as folder, folder.create(log.name) as file:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            close_fds=False,  # the lock is inherited
        )
        while process.poll() is None and not stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                process.wait(PROCESS_INTERVAL)
        process.terminate()  # Does nothing to one that has ended.
        status = process.wait()
    if status != 0 and not stop.is_set():
        failure = RuntimeError(
            f"{' '.join(map(word, command))}: exit status {status}, see {log}:"
        )
        failure.add_note("\n".join(_last_lines(log)))
        raise failure


def _last_lines(log: Path) -> list[str]:
    """The last three lines of a file of any size and any bytes."""
    with Folder(log.parent) as folder, folder.open(log.name) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_BYTES))
        return file.read().decode(errors="backslashreplace").strip().splitlines()[-3:]
