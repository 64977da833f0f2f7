"""How long updates take on a machine that another program uses too.

    python -m benchmarks.scale.busy --publish

Each update has as many threads as there are cores, of which another process keeps one
busy, at lower priority or at the same; and the same with the machine to itself. PyTorch
is also timed as it is without this package, which limits how long threads spin while
they wait, and with threads that sleep at once. Subjects take turns, each time in a
process of its own.
"""

import csv
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from benchmarks.command import REPOSITORY, Output, run_command
from benchmarks.machine import fingerprint
from benchmarks.speed.cell import Cell
from benchmarks.speed.problems import Size, make_problem
from benchmarks.speed.subjects import make_subject
from benchmarks.speed.timing import time_in_turns
from trpo.common.framework_settings import BRIEF_SPINNING
from trpo.common.machine import available_cores


SIZES = ((2_048, 64), (8_192, 256))
SPINNING, SLEEPING = "torch, threads that spin", "torch, threads that sleep"
SUBJECTS = ("jax", "torch", SPINNING, SLEEPING, "sb3-contrib")
LOADS = {"quiet": "pass", "beside nice 5": "os.nice(5)\nwhile True: pass",
         "beside an equal": "while True: pass"}  # fmt: skip
"""What another process does meanwhile."""
OVER = tuple(f"{load} over quiet" for load in LOADS if load != "quiet")
HEADER = ("subject", "samples", "units", *(f"{load} ms" for load in LOADS), *OVER)
WORKER = "time-here"


@dataclasses.dataclass
class Arguments(Output):
    """Time updates with and without another process that wants the cores."""

    rounds: int = 5
    """Processes of each subject, size and load."""
    seconds: float = 2.0
    """For updates in each process, after two."""


@contextmanager
def other_process(load: str) -> Iterator[None]:
    """Puts this load on the machine."""
    other = subprocess.Popen([sys.executable, "-c", f"import os\n{LOADS[load]}"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def timed(subject: str, size: tuple[int, int], seconds: float) -> float:
    """Median seconds of an update, in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    cell = (WORKER, subject, *map(str, size), str(seconds))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale.busy", *cell],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"timing {subject} failed:\n{done.stderr[-2000:]}")
    return statistics.median(json.loads(done.stdout.splitlines()[-1]))


def work(subject: str, samples: int, units: int, seconds: float) -> None:
    """Time updates here, and print the seconds of each."""
    if subject in (SPINNING, SLEEPING, "sb3-contrib"):
        if subject == SLEEPING:
            os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        # Before this package, which would say how its threads wait.
        import torch  # noqa: F401
    size = Size("HalfCheetah", samples, 17, 6, (units, units))
    cell = Cell(kind="update", subject=subject.partition(",")[0], size=size)
    (found,) = time_in_turns([make_subject(cell, make_problem(size))], seconds)
    print(json.dumps(found))


def compare(subject: str, size: tuple[int, int], found: dict) -> tuple:
    """A row: medians, and ratios of neighbours in time with their range."""
    rounds = found[subject, size]
    shown = [f"{1e3 * statistics.median(x):.1f}" for x in zip(*rounds, strict=True)]
    for i in range(1, len(LOADS)):
        ratios = [times[i] / times[0] for times in rounds]
        middle, spread = statistics.median(ratios), (min(ratios), max(ratios))
        shown.append("{:.2f} [{:.2f}, {:.2f}]".format(middle, *spread))
    return (subject, *size, *shown)


def main(arguments: Arguments) -> None:
    """Time all, print, and write the table."""
    console, found = Console(highlight=False, soft_wrap=True), {}
    for round_number in range(arguments.rounds):
        for size in SIZES:
            for subject in SUBJECTS:
                times = []
                for load in LOADS:
                    with other_process(load):
                        times.append(timed(subject, size, arguments.seconds))
                found.setdefault((subject, size), []).append(times)
                said = zip(times, LOADS, strict=True)
                console.print(
                    f"round {round_number + 1}, {subject}, {size[0]:,} x {size[1]}: "
                    + ", ".join(f"{1e3 * time:.1f} ms {load}" for time, load in said)
                )
    rows = [compare(subject, size, found) for size in SIZES for subject in SUBJECTS]
    folder = arguments.folder("scale")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "busy.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])
    machine = fingerprint("cpu", available_cores())
    (folder / "busy.json").write_text(json.dumps(machine, indent=1) + "\n")


if __name__ == "__main__":
    # Each subject says for itself how threads wait.
    for name in BRIEF_SPINNING:
        os.environ.pop(name, None)
    if sys.argv[1:2] == [WORKER]:
        _, _, subject, samples, units, seconds = sys.argv
        work(subject, int(samples), int(units), float(seconds))
    else:
        run_command(main, Arguments)
