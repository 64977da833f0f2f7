"""What lies in a run directory, and who else writes there: nothing else is touched."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.checkpoints import scratch
from benchmarks.faults.row import Row, Scenario, require
from benchmarks.faults.runs import BACKENDS, config, quiet
from trpo.common.files import FileError, Folder
from trpo.config.callbacks import CallbackConfig
from trpo.runs.directory import FILES, FOLDERS, RunDirectory
from trpo.runs.train import train_run


# Below a run directory, all that is written, swept or deleted.
INSIDE = ("checkpoints", "best", "best/checkpoints", "tensorboard")
NAMES = (
    *FILES, *FOLDERS, *(f".tmp-{name}" for name in FILES), *INSIDE[2:],
    *(f"best/{name}" for name in FILES), "best/.tmp-config.json",
    *(f"{folder}/{prefix}checkpoint-{step:012d}"
      for folder in ("checkpoints", "best/checkpoints")
      for prefix in ("", ".tmp-", ".old-") for step in (48, 96, 144)),
    "tensorboard/events.out.tfevents.1.host", "metrics.csv.tmp", "metrics.damaged.csv",
)  # fmt: skip
KINDS: dict[str, Callable[[Path, Path], object]] = {
    "a link to a file": lambda path, theirs: path.symlink_to(theirs / "thesis.txt"),
    "a link to a folder": lambda path, theirs: path.symlink_to(theirs),
    "a link to nothing": lambda path, theirs: path.symlink_to(theirs / "new.txt"),
    "a hard link": lambda path, theirs: os.link(theirs / "thesis.txt", path),
    "a pipe": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, theirs: shutil.copytree(theirs, path),
}


def _content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def _settings(backend: str, updates: int) -> dict:
    return {
        "backend": backend,
        "total_steps": 48 * updates,
        "checkpoint_interval": 1,
        "eval_interval": 1,
        "eval_episodes": 1,
        "callbacks": CallbackConfig(save_best=True),
    }


def placed(row: Row) -> None:
    """Links, pipes and folders at names of a run that then goes on."""
    draw = random.Random(5)
    with scratch() as root:
        for backend in BACKENDS:
            run = root / backend
            train_run(config(**_settings(backend, 2)), run, console=quiet())
        for index in range(row.tries):
            backend, place = BACKENDS[index % 2], root / "try"
            theirs, run = place / "theirs", place / "run"
            (theirs / "deep").mkdir(parents=True)
            for name in ("thesis.txt", "deep/more.txt"):
                (theirs / name).write_text(name)
            before = _content(theirs)
            shutil.copytree(root / backend, run)
            name, kind = draw.choice(NAMES), draw.choice(list(KINDS))
            if (run / name).is_dir():
                shutil.rmtree(run / name)
            (run / name).unlink(missing_ok=True)
            KINDS[kind](run / name, theirs)
            with row.attempt(f"{backend}: {kind} at {name}"):
                _goes_on(run, name, config(**_settings(backend, 3)))
                require(_content(theirs) == before, "what it named was changed")
                if kind == "a folder" and name not in INSIDE:
                    here = (run / name).rglob("thesis.txt")
                    kept = any(path.is_file() for path in here)
                    moved = any(run.rglob("thesis.txt"))
                    require(kept or moved, "a user's file in it is gone")
            shutil.rmtree(place)


def _goes_on(run: Path, name: str, settings: object) -> None:
    """Require that it trains to its end, or is refused in a line with the name."""
    try:
        train_run(settings, run, resume=True, console=quiet())  # pyright: ignore
        require(RunDirectory(run).load()[0].step == 144, "not trained to its end")
    except (ValueError, OSError) as error:
        said = str(error)
        require(str(run / name) in said, f"it did not name the path: {said}")
        require("\n" not in said, f"more than a line: {said}")


HOLD = """
import sys, time
from trpo.common.files import FileError, Folder
folder = Folder(sys.argv[1])
try:
    folder.lock()
    print("holds", flush=True)
    time.sleep(600)
except FileError as error:
    print(error, flush=True)
"""


def contended(row: Row) -> None:
    """Three processes want one directory; who has it is killed."""
    for index in range(row.tries):
        with scratch() as root, row.attempt(index):
            command = [sys.executable, "-c", HOLD, str(root)]
            started = [
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                for _ in range(3)
            ]
            said = [_line(process) for process in started]
            try:
                require(said.count("holds") == 1, f"not one has it: {said}")
                holder = started[said.index("holds")]
                others = [line for line in said if line != "holds"]
                # Who asks in the same moment may find that its name is not there yet.
                named = f"process {holder.pid} on ", "another process"
                told = [any(f"in use by {n}" in line for n in named) for line in others]
                require(all(told), f"not named: {others}")
                holder.send_signal(signal.SIGKILL)
                holder.wait()
                with Folder(root) as folder:
                    folder.lock()
            except FileError as error:
                require(False, f"the lock outlived its process: {error}")
            finally:
                for process in started:
                    process.kill()
                    process.wait()
                    assert process.stdout is not None
                    process.stdout.close()


def _line(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


SCENARIOS = [
    Scenario("place", "a link, pipe or folder at a name of a run", 600, placed, 12),
    Scenario("place", "three processes want one run directory", 20, contended, 2),
]
