"""Runs cells, one process each, in an order drawn anew for each round."""

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.speed.cell import Cell
from benchmarks.speed.store import Store
from benchmarks.speed.worker import MARKER


ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 1800
# One measurement tells all: an error is no timing.
ONE_ROUND = ("ring-b",)


def run(
    cells: Sequence[Cell], rounds: int, store: Store, settings: dict[str, Any]
) -> None:
    """Measure each cell once a round, skipping what the store has.

    Args:
        cells: What to measure.
        rounds: Processes of each cell.
        store: Where the samples go.
        settings: `threads`, and `seconds` of timing in each process.
    """
    console = Console()
    pending = [
        (number, cell)
        for number in range(rounds)
        for cell in _shuffled(cells, number)
        if not (number and cell.kind in ONE_ROUND)
    ]
    with tempfile.TemporaryDirectory(prefix="trpo-benchmark-") as folder:
        for place, (number, cell) in enumerate(pending):
            if store.is_done(cell, number):
                continue
            console.print(
                f"[{place + 1}/{len(pending)}] round {number + 1}: {cell.title}",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
            result = measure(cell, settings, Path(folder))
            for trouble in ("fails", "skipped"):
                if trouble in result:
                    console.print(f"  {trouble}: {result[trouble]}", markup=False)
            store.add(cell, number, result)


def _shuffled(cells: Sequence[Cell], number: int) -> list[Cell]:
    # Neighbours differ from round to round, so no cell always follows a hot one.
    return random.Random(number).sample(list(cells), len(cells))


def measure(cell: Cell, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One cell's result, from a process of its own.

    Args:
        cell: What to measure.
        settings: `threads` and `seconds`.
        folder: Compilation caches and float64 results of this run; each cell has a
            cache of its own, empty in its first round and warm in the others.
    """
    name = json.dumps(cell.to_json(), sort_keys=True)
    cache = folder / hashlib.sha256(name.encode()).hexdigest()[:16]
    job = {"threads": settings["threads"], "seconds": settings["seconds"]}
    job["cache"] = str(cache)
    if cell.kind == "update":
        job["truth"] = _truth(cell, job, folder)
    return _spawn(cell, job)


def _truth(cell: Cell, job: dict[str, Any], folder: Path) -> str:
    """File with the float64 result of this size, made by its first cell; "" if none."""
    assert cell.size is not None
    path = folder / f"truth {cell.size.label}.npz"
    if not path.exists():
        reference = Cell(kind="truth", subject="torch", size=cell.size)
        _spawn(reference, {**job, "truth": str(path)})
    return str(path) if path.exists() else ""


def _spawn(cell: Cell, job: dict[str, Any]) -> dict[str, Any]:
    argument = json.dumps({"cell": cell.to_json(), "settings": job})
    command = [sys.executable, "-m", "benchmarks.speed.worker", argument]
    try:
        finished = subprocess.run(
            command, cwd=ROOT, env=_environment(job), check=False,
            timeout=LIMIT_SECONDS, capture_output=True, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"fails": f"took more than {LIMIT_SECONDS} s"}
    for line in finished.stdout.splitlines():
        if line.startswith(MARKER):
            result = json.loads(line.removeprefix(MARKER))
            if "fails" in result:
                sys.stderr.write(finished.stderr)
            return result
    sys.stderr.write(finished.stderr)
    return {"fails": f"the process ended with status {finished.returncode}"}


def _environment(job: dict[str, Any]) -> dict[str, str]:
    """Threads pinned, compilation cached in the job's folder, no GPU memory hoarded."""
    threads, cache = str(job["threads"]), job["cache"]
    pins = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
    return {
        **os.environ,
        **{f"{name}_NUM_THREADS": threads for name in pins},
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": cache,
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
