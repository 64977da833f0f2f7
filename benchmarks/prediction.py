"""What one H100 should need for an update: a floor to hold a later measurement against.

    python -m benchmarks.prediction

Needs no GPU. Arithmetic and bytes are `flops.py`'s, launches are counted in XLA's own
optimised program for this machine (`launches.py`), the GPU's numbers are its maker's
and, for the time of a launch, an assumption that is stated.
"""

from pathlib import Path
from typing import NamedTuple

import tyro

from benchmarks import flops, launches
from benchmarks.problems import SMALL_GRID, Size
from benchmarks.subjects import CG_ITERATIONS, EPOCHS


RESULTS = Path(__file__).parent / "results" / "throughput" / "h100.md"
# H100 SXM: float32 without tensor cores, and HBM3.
PEAK_FLOPS, BANDWIDTH = 66.9e12, 3.35e12
# A short kernel in a row of others, and a loop whose condition the host reads.
LAUNCH_SECONDS, HOST_READ_SECONDS = 2.5e-6, 15e-6
CANDIDATES = 1


class Prediction(NamedTuple):
    """Least seconds of one update on one H100, by cause.

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


def predict(size: Size) -> Prediction:
    """The prediction for an update of a size, JAX, float32."""
    work = flops.update(size, CG_ITERATIONS, CANDIDATES, EPOCHS)
    turns = (CG_ITERATIONS, CANDIDATES)
    number = launches.count(launches.optimised_program(size), turns)
    return Prediction(
        work.flops / PEAK_FLOPS,
        work.traffic / BANDWIDTH,
        number * LAUNCH_SECONDS,
        number,
        # Each loop reads its condition once more than it turns.
        sum(turns) + len(turns),
    )


def table() -> str:
    """Markdown."""
    lines = [
        "# Prediction for one H100 (not run)",
        "",
        "One update in JAX, float32, fixed work: 10 CG iterations, one line-search "
        f"candidate, 10 critic epochs of 256. {PEAK_FLOPS / 1e12:.1f} TFLOP/s, "
        f"{BANDWIDTH / 1e12:.2f} TB/s, {1e6 * LAUNCH_SECONDS:.1f} µs for a launch, "
        f"{1e6 * HOST_READ_SECONDS:.0f} µs for a loop condition that the host reads. "
        "Launches are those of the program that XLA optimised for a CPU; a GPU's fuses "
        "by other rules, so take that column as within a factor of two.",
        "",
        "| size | arithmetic, ms | bytes, ms | launches | starts, ms | all, ms |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for size in SMALL_GRID:
        found = predict(size)
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


def main(out: Path = RESULTS) -> None:
    """Write and print the prediction.

    Args:
        out: Markdown file.
    """
    out.write_text(table())
    print(out.read_text())


if __name__ == "__main__":
    tyro.cli(main)
