"""What one GPU should need for an update: a floor to hold a later measurement against.

    python -m benchmarks.speed.prediction

Needs no GPU. Arithmetic and bytes are `flops.py`'s, launches are counted in XLA's own
optimised program for this machine (`launches.py`), the GPU's numbers are its maker's
and, for the time of a launch, an assumption that is stated.
"""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

from benchmarks.command import Output, run_command
from benchmarks.speed import flops, launches
from benchmarks.speed.problems import SMALL_GRID, Size
from benchmarks.speed.store import RESULTS
from benchmarks.speed.subjects import CG_ITERATIONS, EPOCHS


LAUNCHES = "launches.json"


class GPU(NamedTuple):
    """What its maker says of a GPU.

    Attributes:
        flops: float32 operations a second, without tensor cores.
        bandwidth: bytes a second of its memory.
    """

    flops: float
    bandwidth: float


# NVIDIA's data sheets of the SXM parts: "H100 Tensor Core GPU" (HBM3) and "H200 Tensor
# Core GPU" (HBM3e, of the same arithmetic).
GPUS = {"H100": GPU(66.9e12, 3.35e12), "H200": GPU(66.9e12, 4.8e12)}
# A short kernel in a row of others, and a loop whose condition the host reads.
LAUNCH_SECONDS, HOST_READ_SECONDS = 2.5e-6, 15e-6
CANDIDATES = 1


class Prediction(NamedTuple):
    """Least seconds of one update on one GPU, by cause.

    Attributes:
        arithmetic: at the peak.
        traffic: at full bandwidth.
        starts: kernels, as launched one after the other.
        launches: how many.
        host_reads: conditions of loops of unknown length that reach the host.
    """

    arithmetic: float
    traffic: float
    starts: float
    launches: int
    host_reads: int

    @property
    def seconds(self) -> float:
        """Launches hide what runs meanwhile: the larger of the two, and the reads."""
        busy = max(self.arithmetic, self.traffic, self.starts)
        return busy + self.host_reads * HOST_READ_SECONDS


TURNS = (CG_ITERATIONS, CANDIDATES)
# Each loop reads its condition once more than it turns.
HOST_READS = sum(TURNS) + len(TURNS)


def counted() -> dict[str, int]:
    """Launches of an update in JAX, float32, by the size's label."""
    return {
        size.label: launches.count(launches.optimised_program(size), TURNS)
        for size in SMALL_GRID
    }


def predict(size: Size, number: int, gpu: GPU) -> Prediction:
    """The prediction for an update of a size, of so many launches."""
    work = flops.update(size, CG_ITERATIONS, CANDIDATES, EPOCHS)
    return Prediction(
        work.flops / gpu.flops,
        work.traffic / gpu.bandwidth,
        number * LAUNCH_SECONDS,
        number,
        HOST_READS,
    )


def page(folder: Path, name: str) -> str:
    """Markdown for the GPU of this name, of the launches that were counted."""
    numbers, gpu = json.loads((folder / LAUNCHES).read_text()), GPUS[name]
    lines = [
        f"# Prediction for one {name} (not run)",
        "",
        "One update in JAX, float32, fixed work: 10 CG iterations, one line-search "
        f"candidate, 10 critic epochs of 256. {gpu.flops / 1e12:.1f} TFLOP/s, "
        f"{gpu.bandwidth / 1e12:.2f} TB/s, {1e6 * LAUNCH_SECONDS:.1f} µs for a launch, "
        f"{1e6 * HOST_READ_SECONDS:.0f} µs for a loop condition that the host reads. "
        "Launches are those of the program that XLA optimised for a CPU; a GPU's fuses "
        "by other rules, so take that column as within a factor of two.",
        "",
        "| size | arithmetic, ms | bytes, ms | launches | starts, ms | all, ms |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for size in SMALL_GRID:
        found = predict(size, numbers[size.label], gpu)
        lines.append(
            f"| {size.label} | {1e3 * found.arithmetic:.3f} | "
            f"{1e3 * found.traffic:.3f} | {found.launches:,} | "
            f"{1e3 * found.starts:.1f} | **{1e3 * found.seconds:.1f}** |"
        )
    lines += [
        "",
        "Launches decide at every size, and most of them are the critic's minibatch "
        "steps, one after the other by the algorithm's definition. What helps on a GPU "
        "is fewer of them (`--value-minibatch-size`), not faster products.",
    ]
    return "\n".join(lines) + "\n"


@dataclasses.dataclass
class Arguments(Output):
    """Count the launches of one update; write and print what they predict."""


def main(arguments: Arguments) -> None:
    """Count, write, print."""
    folder = arguments.folder(RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LAUNCHES).write_text(json.dumps(counted(), indent=1) + "\n")
    for name in GPUS:
        text = page(folder, name)
        (folder / f"{name.lower()}.md").write_text(text)
        print(text)


if __name__ == "__main__":
    run_command(main, Arguments)
