"""Disks that are full or may not be written to: training goes on, nothing is lost."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.faults.checkpoints import scratch
from benchmarks.faults.row import Row, Scenario, require
from benchmarks.faults.runs import BACKENDS, config, digest, quiet, said_on
from trpo.runs.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from trpo.runs.compiled import train_compiled_run
from trpo.runs.directory import RunDirectory, RunDirectoryError
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run
from trpo.training.trainer import Trainer


FILL = 160 * 2**10


def full_disk(row: Row) -> None:
    """A disk (tmpfs) that fills up: training ends, the user is told, old saves load."""
    for index in range(row.tries):
        with scratch() as root:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={FILL}", "tmpfs", str(root)]
            if subprocess.run(mount, capture_output=True, check=False).returncode:
                row.note = "not run: no right to mount a tmpfs"
                return
            try:
                with row.attempt(index):
                    if index % 3 == 2:
                        _full_once_compiled(root)
                    else:
                        _full_once(root, BACKENDS[index % 2])
            finally:
                subprocess.run(["umount", "-l", str(root)], check=True)


def _full_once(root: Path, backend: str) -> None:
    console, settings = quiet(), config(backend, total_steps=48 * 12)
    (root / "filler").write_bytes(bytes(60 * 2**10))
    try:
        train_run(settings, root / "run", console=console)
        require(False, "the disk was not full")
    except RunDirectoryError as error:
        require("room for the last checkpoint" in str(error), f"it said {error}")
    said = said_on(console)
    require("no checkpoint was written" in said, "the user was not told")
    done = f"{settings.num_steps} steps 100%"
    require(done in said.replace(",", ""), "training stopped")
    found = sorted((root / "run" / "checkpoints").glob("checkpoint-*"))
    require(found, "nothing was saved before")
    for path in found:
        load_checkpoint(path)
    steps = [row["step"] for row in read_metrics(root / "run" / "metrics.csv")]
    require(all(step % 48 == 0 for step in steps), "a torn row")
    more = ["mount", "-o", "remount,size=8m", str(root)]
    subprocess.run(more, check=True)
    train_run(settings, root / "run", resume=True, console=console)
    state = newest_checkpoint(root / "run" / "checkpoints")[0].arrays
    with Trainer(settings) as whole:
        whole.run()
        require(digest(whole.get_state()) == digest(state), "not resumed exactly")


def _full_once_compiled(root: Path) -> None:
    console = quiet()
    settings = config("jax", env_id="phys2d/Pendulum-v0", total_steps=48 * 12)
    (root / "filler").write_bytes(bytes(60 * 2**10))
    try:
        train_compiled_run(settings, root / "run", console=console)
        require(False, "the disk was not full")
    except RunDirectoryError as error:
        require("room for the last checkpoint" in str(error), f"it said {error}")
    said = said_on(console)
    require("no checkpoint was written" in said, "the user was not told")
    done = f"{settings.num_steps} steps 100%"
    require(done in said.replace(",", ""), "training stopped")
    subprocess.run(["mount", "-o", "remount,size=8m", str(root)], check=True)
    train_compiled_run(settings, root / "run", resume=True, console=console)
    train_compiled_run(settings, root / "whole", console=console)
    states = [RunDirectory(root / n).load()[0].arrays for n in ("run", "whole")]
    require(digest(states[0]) == digest(states[1]), "not resumed exactly")


AS_NOBODY = """
import os, sys
from pathlib import Path
import numpy as np
from trpo.runs.checkpoint import newest_checkpoint, save_checkpoint
os.setgid(65534), os.setuid(65534)
try:
    save_checkpoint(Path(sys.argv[1]), 2, {"w": np.ones(3)}, {}, 1)
except OSError as error:
    print("refused", newest_checkpoint(Path(sys.argv[1]))[0].step)
"""


def no_permission(row: Row) -> None:
    """A folder that may not be written to: by its mode, or a read-only file system."""
    for index in range(row.tries):
        with scratch() as root, row.attempt(index):
            root.chmod(0o755)
            save_checkpoint(root / "saves", 1, {"w": np.ones(3)}, {}, 1)
            here = str(root / "saves")
            code = AS_NOBODY
            mounted = index % 2 == 1
            if mounted:
                code = code.replace("os.setgid(65534), os.setuid(65534)", "")
                for rest in (["--bind"], ["-o", "remount,ro,bind"]):
                    subprocess.run(["mount", *rest, here, here], check=True)
            elif os.getuid() != 0:
                (root / "saves").chmod(0o555)
                code = code.replace("os.setgid(65534), os.setuid(65534)", "")
            try:
                command = [sys.executable, "-c", code, here]
                said = subprocess.run(
                    command, capture_output=True, text=True, check=False
                )
            finally:
                if mounted:
                    subprocess.run(["umount", here], check=True)
            require(said.stdout == "refused 1\n", said.stdout + said.stderr)


SCENARIOS = [
    Scenario("disk", "full (tmpfs)", 10, full_disk, 3),
    Scenario("disk", "no permission, read-only file system", 20, no_permission, 2),
]
