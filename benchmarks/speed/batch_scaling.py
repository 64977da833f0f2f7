"""Time against batch size, and the memory of a million samples.

python -m benchmarks.speed.batch_scaling [--backend jax]
"""

import dataclasses

from benchmarks.command import run_command
from benchmarks.speed.cell import Cell
from benchmarks.speed.problems import size
from benchmarks.speed.runner import run
from benchmarks.speed.update import Timed


SAMPLES = tuple(8_192 * 2**k for k in range(7))
LARGEST = 1_000_000


@dataclasses.dataclass
class Arguments(Timed):
    """Time updates of 64-64 networks from 8,192 samples to 524,288, then 1,000,000."""

    rounds: int = 3
    """Processes of each cell; each gives one sample."""
    samples: tuple[int, ...] = (*SAMPLES, LARGEST)
    """Batch sizes."""


def scaling_cell(backend: str, samples: int, device: str = "cpu") -> Cell:
    """The cell of one batch size."""
    of = size("HalfCheetah", samples, 64, 64)
    return Cell(kind="scaling", subject=backend, device=device, size=of)


def main(arguments: Arguments) -> None:
    """Measure; `python -m benchmarks.speed.report` writes the tables."""
    cells = [
        scaling_cell(backend, samples, arguments.device)
        for samples in arguments.samples
        for backend in arguments.backends
    ]
    run(cells, arguments.rounds, arguments.open("scaling"), arguments.settings)


if __name__ == "__main__":
    run_command(main, Arguments)
