"""Equality, time and faults by number of ranks, and the cost model beyond.

python -m benchmarks.scale [--only equality time faults model]
"""

import csv
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tyro

from benchmarks.scale import faults, report
from benchmarks.scale.processes import ROOT, on_ranks


OUT = Path(__file__).parent.parent / "results" / "scale"
SAMPLES, MINIBATCH, ROUNDS = 2048, 256, 7


@dataclasses.dataclass
class Arguments:
    """Measure on this machine, and write to benchmarks/results/scale."""

    only: tuple[str, ...] = ("equality", "time", "faults", "model")
    """Parts to do anew; the others' files stay."""
    ranks: tuple[int, ...] = (1, 2, 4)
    """Processes whose updates are timed."""


def write(name: str, header: tuple[str, ...], rows: Iterable[tuple]) -> None:
    """A CSV file of the results."""
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def equality(_: Arguments) -> None:
    """The sharded update's error over its bound, by ranks or devices."""
    rows = []
    for backend, kind in (("torch", "ranks"), ("jax", "devices")):
        for dtype in ("float32", "float64"):
            command = ["-m", "parity_tests.sharded", backend, dtype, "1", "2", "3", "4"]
            for size, worst, decisions, equal, ok in _json_of(command):
                quantity = max(worst, key=worst.__getitem__)
                row = (backend, kind, size, dtype, quantity, f"{worst[quantity]:.3f}")
                rows.append((*row, decisions, equal, ok))
    header = ("backend", "of", "number", "dtype", "worst quantity", "error over bound")
    write("equality", (*header, "same decisions", "same bytes", "ok"), rows)


def timing(arguments: Arguments) -> None:
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
    trace = ["-m", "benchmarks.scale.trace", str(SAMPLES), str(MINIBATCH), "10", "1"]
    traced = _json_of(trace)
    write(
        "time",
        ("backend", "processes", "seconds", "same bytes", "all-reduces by size"),
        rows,
    )
    texts = {name: traced[name] for name in ("lowered", "compiled")}
    (OUT / "all_reduces.json").write_text(
        json.dumps(
            {
                "counts": traced["counts"],
                **texts,
                "cores": os.cpu_count(),
                "links": links,
            },
            indent=1,
        )
        + "\n"
    )


def lost(_: Arguments) -> None:
    """What the other ranks do when one is killed or stopped."""
    header = (
        "backend",
        "signal",
        "lost",
        "seconds",
        "status",
        "names it",
        "saved step",
    )
    write("faults", header, faults.rows())


def model(_: Arguments) -> None:
    """`benchmarks/scaling.md`, of what was measured."""
    report.write(OUT, OUT.parent.parent / "scaling.md")


PARTS: dict[str, Callable[[Arguments], None]] = {
    "equality": equality,
    "time": timing,
    "faults": lost,
    "model": model,
}


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
    given = tyro.cli(Arguments)
    for name in given.only:
        PARTS[name](given)
        print(f"{name}: done", flush=True)
