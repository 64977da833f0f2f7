"""The process of one cell: pins its threads, measures, prints JSON, ends.

Started by `benchmarks.speed.runner` as `python -m benchmarks.speed.worker JSON`; not
for users.
"""

import importlib
import json
import os
import sys
import traceback
from typing import Any


MARKER = "benchmark result: "
# Kind of cell -> module and function that measures it.
KINDS = {
    "update": "benchmarks.speed.measures.update:measure_update",
    "truth": "benchmarks.speed.measures.update:measure_truth",
    "fisher": "benchmarks.speed.measures.fisher:measure_fisher",
    "fisher-over-time": "benchmarks.speed.fisher_over_time:measure_turns",
    "ring-b": "benchmarks.speed.measures.ring_b:measure_ring_b",
    "machine": "benchmarks.speed.measures.machine:measure_machine",
    "scaling": "benchmarks.speed.measures.update:measure_scaling",
    "act": "benchmarks.speed.measures.act:measure_act",
    "training": "benchmarks.speed.measures.training:measure_training",
    "compiled": "benchmarks.speed.measures.compiled:measure_compiled",
}


def pin_threads(threads: int) -> None:
    """Allow this process `threads` cores, which bounds XLA's threads; call first.

    OMP_NUM_THREADS and its kin are set by the parent, before this process started.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[:threads])


def main(argument: str) -> None:
    """Measure the cell described in JSON; a failure is a result too."""
    job: dict[str, Any] = json.loads(argument)
    pin_threads(job["settings"]["threads"])
    from benchmarks.speed.cell import Cell

    cell = Cell.from_json(job["cell"])
    module, _, function = KINDS[cell.kind].partition(":")
    try:
        measure = getattr(importlib.import_module(module), function)
        result = measure(cell, job["settings"])
    except ImportError as error:
        result = {"skipped": f"not installed: {error.name or error}"}
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        result = {"fails": f"{type(error).__name__}: {lines[0]}"}
    print(MARKER + json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
