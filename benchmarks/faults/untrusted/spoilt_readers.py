"""Everything that reads a run directory, tried on spoilt ones; knows no framework.

`python -m benchmarks.faults.untrusted.spoilt_readers RUN TRIES SEED`, a process of its
own.
"""

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given, seed, settings

from benchmarks.faults.untrusted.spoilt_runs import (
    Fault,
    Outside,
    drawing,
    gone,
    several,
)
from trpo.config.run import TrainConfig
from trpo.runs.checkpoint_fit import require_fit
from trpo.runs.compiled import is_compiled_run, read_members
from trpo.runs.curves import load_runs, panels_of, points
from trpo.runs.curves_page import _page
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import logged_steps, read_metrics
from trpo.sweeps.sweep import SweepRun


# Of one reader, which takes milliseconds.
SECONDS = 20.0
# In bytes, of the whole process: what a file asks for is not allocated.
MEMORY = 4 * 2**30
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = {
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink"),
    *("os.truncate", "shutil.rmtree", "subprocess.Popen", "os.system", "os.exec"),
    *("os.posix_spawn", "socket.connect", "socket.bind", "pickle.find_class"),
}


class Watch:
    """Notes what the process does to files while it is on, and ends what hangs."""

    def __init__(self) -> None:
        self.on, self.seen = False, list[str]()
        sys.addaudithook(self._note)
        signal.signal(signal.SIGALRM, self._late)

    def _note(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[2], int):
            if arguments[2] & WRITES:
                self.seen.append(f"{event} {arguments[0]}")
        elif event in CHANGES:
            self.seen.append(f"{event} {arguments}")

    def _late(self, *_: object) -> None:
        raise AssertionError(f"not done after {SECONDS} s")

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """It is on inside."""
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        self.on = True
        try:
            yield
        finally:
            self.on = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def readers(run: Path, config: TrainConfig) -> dict[str, Callable[[], Any]]:
    """Name -> reads something of the run directory `run`."""
    directory, swept = RunDirectory(run), SweepRun(run.name, config, {})
    root = run.parent
    return {
        "config": directory.read_config,
        "best": RunDirectory(run / "best").load,
        "metrics": lambda: read_metrics(run / "metrics.csv"),
        "steps": lambda: logged_steps(run / "metrics.csv"),
        "plot": lambda: drawn(run),
        "members": lambda: is_compiled_run(run) and read_members(run, config),
        "fit": lambda: require_fit(directory.read_config(), directory.load()[0]),
        "sweep": lambda: (
            swept.check(root),
            swept.steps_done(root),
            swept.is_done(root) and swept.result(root),
        ),
    }


def drawn(run: Path) -> str:
    """All that `trpo plot` draws, without matplotlib."""
    runs = load_runs([run])
    for panel in panels_of(runs):
        for curve in panel.curves:
            points(runs[0], curve)
    return _page(runs, b"")


def check(watch: Watch, run: Path, config: TrainConfig) -> None:
    """Each reader ends in a result, or in one line that names a file."""
    for name, read in readers(run, config).items():
        try:
            with watch():
                read()
        except (ValueError, OSError) as error:  # Those that the command line tells.
            text = str(error)
            assert "\n" not in text, (name, text)
            assert len(text) < 2000, (name, text[:3000])
            assert str(run) in text, (name, text)
        except BaseException as error:
            error.add_note(f"reader {name}")
            raise
    assert not watch.seen, watch.seen


def mend(template: Path, run: Path, path: str) -> None:
    """Make what lies at `path` what it was, and all of its checkpoint."""
    at = Path(path).parent if Path(path).parent.name.startswith("checkpoint") else path
    gone(run / at)
    if (template / at).is_dir():
        shutil.copytree(template / at, run / at)
    else:
        shutil.copy(template / at, run / at)


def main(template: Path, tries: int, first: int) -> None:
    """Spoil copies of a run directory, and read them.

    Args:
        template: A run directory that nothing is wrong with.
        tries: How often.
        first: Seed of what is drawn.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")  # Of what is left out.
    config = TrainConfig.from_dict(json.loads((template / "config.json").read_text()))
    watch, done = Watch(), 0
    with tempfile.TemporaryDirectory(prefix="trpo-torture-") as name:
        run, outside = Path(name) / "runs" / "run", Outside(Path(name) / "outside")
        shutil.copytree(template, run)

        @seed(first)
        @settings(drawing(tries))
        @given(several(template))
        def try_one(found: list[Fault]) -> None:
            nonlocal done
            try:
                for fault in found:
                    fault.make(run / fault.path, outside.path)
                check(watch, run, config)
            finally:
                for fault in found:
                    mend(template, run, fault.path)
            done += 1

        try_one()
        outside.require_untouched()
    assert not {"torch", "jax", "flax"} & set(sys.modules)
    sys.stdout.write(f"{done} tries\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
