"""Whether updates take longer than they did at an older commit.

    python -m benchmarks.speed.against 0a1b2c3
    python -m benchmarks.speed.against HEAD      (changes that are not committed)

Both are timed in turns, in processes of one thread of their own: the default agent, by
what its interface has been since the first commit. The old one is also timed twice, as
A and B: what tells those apart is noise, and no ratio within it is claimed.
"""

import csv
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from benchmarks.command import REPOSITORY as ROOT, run_command
from benchmarks.csv_files import write_csv
from benchmarks.speed.samples import ratio
from trpo.common.framework_settings import BRIEF_SPINNING
from trpo.common.machine import available_cores


CELL = Path(__file__).with_name("measures") / "against.py"
PRESET = CELL.with_name("preset.py")
SIZES = ((2_048, 64), (2_048, 256), (8_192, 256), (32_768, 64))
TRAINING_HEADER = ("revision", "backend", "rounds", "steps/s before", "steps/s now",
                   "ratio", "low", "high")  # fmt: skip
HEADER = ("revision", "backend", "samples", "units", "old ms", "ratio", "low", "high",
          "noise low", "noise high")  # fmt: skip


@dataclasses.dataclass
class Arguments:
    """Time updates of this tree and of an older commit in turns."""

    revision: tyro.conf.Positional[str]
    """Commit to compare with."""
    backends: tuple[str, ...] = ("torch", "jax")
    """Frameworks."""
    rounds: int = 6
    """Processes of each."""
    seconds: float = 4.0
    """For updates in each process, after compiling."""
    out: Path | None = None
    """CSV file to add rows to."""


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """The packages as they were at a commit, in a temporary folder.

    Raises:
        ValueError: there is no such commit.
    """
    with tempfile.TemporaryDirectory(prefix="against-") as folder:
        archive = Path(folder) / "tree.tar"
        command = ["git", "-C", str(ROOT), "archive", "-o", str(archive), revision]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise ValueError(
                f"`revision`: expected a commit, got {revision!r} "
                f"({made.stderr.strip()})."
            )
        tree = Path(folder) / "tree"
        tree.mkdir()
        subprocess.run(["tar", "-xf", str(archive), "-C", str(tree)], check=True)
        yield tree


def timed(tree: Path, backend: str, size: tuple[int, int], seconds: float) -> float:
    """Median seconds of an update of the packages in `tree`, in a process of its own.

    Raises:
        RuntimeError: the process failed.
    """
    arguments = [str(CELL), backend, *map(str, size), str(seconds)]
    return float(np.median(_found(tree, arguments, "1")["seconds"]))


def _found(tree: Path, arguments: list[str], threads: str) -> dict[str, Any]:
    """What a script says of the packages in `tree`, in a process of its own."""
    command = [sys.executable, *arguments]
    # As `trpo train` has threads wait; the same for both trees.
    given = {"OMP_NUM_THREADS": threads, **BRIEF_SPINNING}
    environment = os.environ | given | {"PYTHONPATH": str(tree)}
    done = subprocess.run(
        command, env=environment, cwd=tree, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"timing {tree} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if not Path(found["file"]).is_relative_to(tree):
        raise RuntimeError(f"expected the packages of {tree}, got {found['file']}.")
    return found


def compare_training(
    revision: str, backends: Sequence[str], rounds: int, seconds: float, path: Path
) -> None:
    """Time `trpo train HalfCheetah-v5` of a commit and of this tree in turns.

    Args:
        revision: The commit.
        backends: Frameworks.
        rounds: Processes of each.
        seconds: For iterations in each process, after the first.
        path: CSV file, written anew.
    """
    rows = []
    with checked_out(revision) as old:
        for backend in backends:
            speeds: dict[Path, list[float]] = {old: [], ROOT: []}
            label = f"{backend}, the preset, before and after"
            for k in track(range(rounds), description=label, transient=True):
                for tree in (old, ROOT) if k % 2 else (ROOT, old):
                    arguments = [str(PRESET), backend, str(seconds)]
                    threads = str(available_cores())
                    found = _found(tree, arguments, threads)
                    speeds[tree].append(found["steps_per_second"])
            of = ratio(speeds[ROOT], speeds[old])
            medians = [float(np.median(speeds[tree])) for tree in (old, ROOT)]
            row = (revision, backend, rounds, *(f"{x:.0f}" for x in medians),
                   *(f"{x:.3f}" for x in (of.value, of.low, of.high)))  # fmt: skip
            rows.append(row)
            Console(highlight=False, soft_wrap=True).print(
                "{1}: {3} steps/s at {0}, {4} now, {5} times (95 % {6} to {7})".format(
                    *row
                )
            )
    write_csv(path, TRAINING_HEADER, rows)


def compare(
    old: Path, backend: str, size: tuple[int, int], arguments: Arguments
) -> tuple:
    """A row of the table."""
    trees = {"A": old, "B": old, "new": ROOT}
    samples: dict[str, list[float]] = {name: [] for name in trees}
    label = f"{backend}, {size[0]:,} x {size[1]}-{size[1]}"
    for k in track(range(arguments.rounds), description=label, transient=True):
        # Each comes first, last and between as often.
        names = list(trees)[k % 3 :] + list(trees)[: k % 3]
        for name in names:
            seconds = timed(trees[name], backend, size, arguments.seconds)
            samples[name].append(seconds)
    found = ratio(samples["new"], samples["A"])
    noise = ratio(samples["B"], samples["A"])
    numbers = (found.value, found.low, found.high, noise.low, noise.high)
    before = 1e3 * float(np.median(samples["A"]))
    return (backend, *size, f"{before:.1f}", *(f"{x:.3f}" for x in numbers))


def main(arguments: Arguments) -> int:
    """Time all, print, and add to the file."""
    console, rows = Console(highlight=False, soft_wrap=True), []
    with checked_out(arguments.revision) as old:
        for backend in arguments.backends:
            for size in SIZES:
                row = compare(old, backend, size, arguments)
                rows.append((arguments.revision, *row))
                console.print(
                    "{}, {:,} x {}: {} ms then; now {} times that (95 % {} to {}; the "
                    "same code twice {} to {})".format(*row)
                )
    if arguments.out is not None:
        is_new = not arguments.out.exists()
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([HEADER, *rows] if is_new else rows)
    return 0


if __name__ == "__main__":
    run_command(main, Arguments)
