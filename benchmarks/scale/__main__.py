"""Equality, time and faults by number of ranks, and the cost model beyond.

python -m benchmarks.scale [--only equality launchers time faults model]
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import pages
from benchmarks.command import Output, run_command
from benchmarks.csv_files import write_csv
from benchmarks.scale import equal_runs, faults, report
from benchmarks.scale.processes import ROOT, on_ranks


RESULTS = "scale"
SAMPLES, MINIBATCH, ROUNDS = 2048, 256, 7


@dataclasses.dataclass
class Arguments(Output):
    """Measure on this machine: equality, time, faults, and a model of many devices."""

    only: tuple[str, ...] = ("equality", "launchers", "time", "faults", "model")
    """Parts to do anew; the others' files stay."""
    ranks: tuple[int, ...] = (1, 2, 4)
    """Processes whose updates are timed."""


def equality(_: Arguments, folder: Path) -> None:
    """The sharded update's error over its bound, by ranks or devices."""
    rows = []
    for backend, kind in (("torch", "ranks"), ("jax", "devices")):
        for dtype in ("float32", "float64"):
            command = [
                "-m",
                "parity_tests.rings.sharded",
                backend,
                dtype,
                "1",
                "2",
                "3",
                "4",
            ]
            for size, worst, decisions, equal, ok in _json_of(command):
                quantity = max(worst, key=worst.__getitem__)
                row = (backend, kind, size, dtype, quantity, f"{worst[quantity]:.3f}")
                rows.append((*row, decisions, equal, ok))
    header = ("backend", "of", "number", "dtype", "worst quantity", "error over bound")
    header = (*header, "same decisions", "same bytes", "ok")
    write_csv(folder / "equality.csv", header, rows)


def timing(arguments: Arguments, folder: Path) -> None:
    """Seconds and all-reduces of an update, by processes."""
    rows, links = [], {}
    for backend in ("torch", "jax"):
        links[backend] = {}
        for size in arguments.ranks:
            given = ["-m", "benchmarks.scale.worker", backend]
            given += [str(number) for number in (SAMPLES, MINIBATCH, ROUNDS)]
            found = json.loads(on_ranks(given, size)[0].splitlines()[-1])
            links[backend] |= {size: found["links"]} if found["links"] else {}
            seconds = f"{found['seconds']:.4f}"
            counts = {int(size): count for size, count in found["counts"].items()}
            rows.append((backend, size, seconds, found["equal"], json.dumps(counts)))
    trace = ["-m", "benchmarks.scale.trace", str(SAMPLES), str(MINIBATCH)]
    write_csv(
        folder / "time.csv",
        ("backend", "processes", "seconds", "same bytes", "all-reduces by size"),
        rows,
    )
    of_torch = [json.loads(row[-1]) for row in rows if row[0] == "torch"]
    (folder / "all_reduces.json").write_text(
        json.dumps(
            {
                "counts": of_torch[-1],
                "compiled": _json_of(trace),
                "cores": os.cpu_count(),
                "links": links,
            },
            indent=1,
        )
        + "\n"
    )


def launchers(_: Arguments, folder: Path) -> None:
    """A whole run of 2 and 4 processes of each launcher against one process."""
    header = ("launcher", "backend", "processes", "largest difference", "same")
    write_csv(folder / "launchers.csv", header, equal_runs.rows())


def lost(_: Arguments, folder: Path) -> None:
    """What the other ranks do when one is killed or stopped."""
    header = (
        "launcher", "backend", "signal", "lost", "seconds", "named", "saved", "resumed",
    )  # fmt: skip
    write_csv(folder / "faults.csv", header, faults.rows())


def model(arguments: Arguments, folder: Path) -> None:
    """The page of what was measured; of the repository, the README beside this."""
    if not (folder / "all_reduces.json").exists():
        raise ValueError(f"`only`: expected measurements in {folder}; do `time` first.")
    if arguments.publish:
        pages.write()
    else:
        (folder / "scaling.md").write_text(report.page(folder))


PARTS: dict[str, Callable[[Arguments, Path], None]] = {
    "equality": equality,
    "launchers": launchers,
    "time": timing,
    "faults": lost,
    "model": model,
}


def main(arguments: Arguments) -> None:
    """Do the parts that are asked for."""
    folder = arguments.folder(RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        PARTS[name](arguments, folder)
        print(f"{name}: done", flush=True)


def _json_of(command: list[str]) -> Any:
    environment = {"JAX_ENABLE_X64": "1", "JAX_NUM_CPU_DEVICES": "4"}
    if "benchmarks.scale.trace" in command:
        environment = {"JAX_NUM_CPU_DEVICES": "2"}
    from benchmarks.scale.processes import settings

    done = subprocess.run(
        [sys.executable, *command], env=settings(**environment), cwd=ROOT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    run_command(main, Arguments)
