"""Measures the machine's peaks, in the same run as everything else."""

from typing import Any

from benchmarks.machine import measure_peaks
from benchmarks.speed.cell import Cell


def measure_machine(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """The matrix-product peak of each framework, and the memory bandwidth."""
    del settings
    return dict(measure_peaks(cell.device))
