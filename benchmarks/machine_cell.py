"""Measures the machine's peaks, in the same run as everything else."""

from typing import Any

from benchmarks.cells import Cell
from benchmarks.machine import measure_peaks


def measure_machine(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """The matrix-product peak of each framework, and the memory bandwidth."""
    del settings
    return dict(measure_peaks(cell.device))
