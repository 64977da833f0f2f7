"""Update throughput per backend, device, precision and size, beside its peers.

python -m benchmarks.speed.update [--grid small|full] [--peers] [--device cpu]
"""

import dataclasses
from typing import Any, Literal

from benchmarks.command import Output, run_command
from benchmarks.machine import fingerprint
from benchmarks.speed.cell import BACKENDS, PRECISIONS, Cell, fisher_cells, update_cells
from benchmarks.speed.problems import GRIDS
from benchmarks.speed.runner import run
from benchmarks.speed.store import RESULTS, Store, store_path
from trpo.common.machine import available_cores


@dataclasses.dataclass
class Timed(Output):
    """What all timing commands share."""

    device: str = "cpu"
    """Device of the frameworks: cpu, cuda, cuda:1."""
    backend: Literal["torch", "jax", "both"] = "both"
    """Backend to measure."""
    peers: bool = False
    """Measure the other libraries too; needs the `peers` extra."""
    rounds: int = 10
    """Processes of each cell; each gives one sample."""
    seconds: float = 2.0
    """Timing in each process, after warm-up."""
    threads: int = dataclasses.field(default_factory=available_cores)
    """Cores that every process may use."""
    fresh: bool = False
    """Throw away the samples that are there."""
    note: str = ""
    """What the results and their tables say of themselves, such as "rehearsal"."""

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of the backends to measure."""
        return BACKENDS if self.backend == "both" else (self.backend,)

    @property
    def settings(self) -> dict[str, Any]:
        """What each process is told."""
        return {"threads": self.threads, "seconds": self.seconds}

    def open(self, benchmark: str, results: str = RESULTS) -> Store:
        """The store of a benchmark's samples; a run that was cut off goes on there."""
        about: dict[str, Any] = {
            "fingerprint": fingerprint(self.device, self.threads),
            "settings": self.settings,
        }
        if self.note:
            about["note"] = self.note
        path = store_path(self.folder(results), benchmark, self.device)
        return Store(path, about, fresh=self.fresh)


@dataclasses.dataclass
class Arguments(Timed):
    """Time whole updates, each in a process of its own, and keep every sample."""

    grid: Literal["small", "full", "tiny", "one"] = "small"
    """Sizes: four of HalfCheetah, or 4 batches x 3 networks x 3 environments; four
    tiny ones or the first of these, to see that all runs."""
    rows: Literal["all", "plain", "precisions", "once"] = "all"
    """All rows; those of float32 with fixed work alone, in half of the time; each
    precision once, without the second run, Fisher products and ring B; or float32
    once."""
    subjects: tuple[str, ...] = ()
    """Of those that `--backend` and `--peers` ask for, only these."""


def ring_b_cells(device: str) -> list[Cell]:
    """Ring-B errors; on a CPU the faster precisions are another kernel at most."""
    precisions = PRECISIONS[:1] if device == "cpu" else PRECISIONS
    return [Cell(kind="ring-b", device=device, precision=name) for name in precisions]


def main(arguments: Arguments) -> None:
    """Measure; `python -m benchmarks.speed.report` writes the tables."""
    device, backends = arguments.device, arguments.backends
    sizes = GRIDS[arguments.grid]
    cells = update_cells(sizes, device, backends, peers=arguments.peers)
    if arguments.rows == "plain":
        cells = [c for c in cells if (c.precision, c.mode) == ("float32", "fixed")]
    if arguments.rows in ("precisions", "once"):
        cells = [c for c in cells if (c.mode, c.label) == ("fixed", "A")]
    else:
        cells += fisher_cells(device, backends) + ring_b_cells(device)
    if arguments.rows == "once":
        cells = [c for c in cells if c.precision == "float32"]
    if arguments.subjects:
        cells = [c for c in cells if c.subject in ("", *arguments.subjects)]
    run(cells, arguments.rounds, arguments.open("update"), arguments.settings)


if __name__ == "__main__":
    run_command(main, Arguments)
