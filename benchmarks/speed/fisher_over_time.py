"""Fisher products over minutes, beside the machine's own speed at the same moments.

    python -m benchmarks.speed.fisher_over_time

On a machine that others share, a process has fast and slow minutes. What is slow then
tells why: each turn times a Fisher product, a matrix product of the same framework, and
copies by one thread of arrays that fit the second-level cache, the third, and neither.
"""

import csv
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from benchmarks.command import Output, run_command
from benchmarks.machine import PRODUCTS
from benchmarks.speed.cell import Cell, fisher_cells
from benchmarks.speed.flops import fisher_product
from benchmarks.speed.measures.fisher import EXTRA_PRODUCTS, few_and_many
from benchmarks.speed.runner import measure
from benchmarks.speed.store import RESULTS
from benchmarks.speed.timing import time_once
from trpo.common.machine import available_cores
from trpo.runs.learning_curves import OTHER_COLOURS


KIND = "fisher-over-time"
# Of array copied: within a core's second-level cache with its copy, within the third.
COPIES = {"copy_l2_gbs": 2**18, "copy_l3_gbs": 2**22, "copy_memory_gbs": 2**26}
REPEATS = 9
# A turn counts as slow that takes this much longer than the median of the faster half.
SLOW = 1.25
LABELS = {"matmul_gflops": "matrix product", "product_gflops": "Fisher product"}


class Turn(NamedTuple):
    """One measurement of everything; rates are medians of `REPEATS`.

    Attributes:
        backend: Framework.
        second: Since the first turn of all.
        product_ms: Of one Fisher product, CG's vector operations included.
        product_gflops, matmul_gflops: Its rate, and that of an 8,192 x 256 x 256
            product of the framework.
        copy_l2_gbs, copy_l3_gbs, copy_memory_gbs: Bytes read and bytes written.
    """

    backend: str
    second: float
    product_ms: float
    product_gflops: float
    matmul_gflops: float
    copy_l2_gbs: float
    copy_l3_gbs: float
    copy_memory_gbs: float


@dataclasses.dataclass
class Arguments(Output):
    """Measure the backends in turns, each time in a process of its own."""

    backends: tuple[str, ...] = ("jax", "torch")
    """Frameworks."""
    rounds: int = 5
    """Processes of each."""
    seconds: float = 25.0
    """Of measuring in each, after compiling."""
    threads: int = dataclasses.field(default_factory=available_cores)
    """Cores that every process may use."""


def seconds_of(run: Callable[[], Any]) -> float:
    """Median of a few calls."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def measure_turns(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Turn after turn until the time is over.

    Returns:
        `turns`, each as the fields of a `Turn`; seconds are the clock's.
    """
    assert cell.size is not None
    samples, units = cell.size.samples, cell.size.layers[0]
    few, many = few_and_many(cell)
    work = fisher_product(samples, cell.size.policy_widths).flops
    matmul = PRODUCTS[cell.subject](cell.device, (samples, units), (units, units))
    sources = {name: np.ones(size, np.uint8) for name, size in COPIES.items()}
    targets = {name: np.empty_like(array) for name, array in sources.items()}
    for _ in range(3):
        time_once(few)
        time_once(many)
        matmul()
    found, end = [], time.time() + settings["seconds"]
    while time.time() < end:
        less, more = time_once(few), time_once(many)
        product = (more - less) / EXTRA_PRODUCTS
        rates = {
            name: 2e-9 * size
            / seconds_of(lambda name=name: np.copyto(targets[name], sources[name]))
            for name, size in COPIES.items()
        }  # fmt: skip
        turn = Turn(
            backend=cell.subject,
            second=time.time(),
            product_ms=1e3 * product,
            product_gflops=1e-9 * work / product,
            matmul_gflops=2e-9 * samples * units * units / seconds_of(matmul),
            **rates,
        )
        found.append(turn)
    return {"turns": found}


def is_slow(turns: list[Turn]) -> np.ndarray:
    """[turns] which of one backend's are slow."""
    times = np.array([turn.product_ms for turn in turns])
    fast = np.median(np.sort(times)[: (len(times) + 1) // 2])
    return times > SLOW * fast


def summary(turns: list[Turn]) -> str:
    """Markdown: medians of the fast and of the slow turns of each backend."""
    lines = [
        "| backend | turns | ms per Fisher product | Gflop/s | matrix product, Gflop/s "
        "| product over matrix product | copies: L2, L3, memory, GB/s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for backend in dict.fromkeys(turn.backend for turn in turns):
        own = [turn for turn in turns if turn.backend == backend]
        slow = is_slow(own)
        for name, chosen in (("fast", ~slow), ("slow", slow)):
            if not chosen.any():
                continue
            rows = np.array([turn[2:] for turn in own])[chosen]
            ms, rate, matmul, *copies = np.median(rows, axis=0)
            share = float(np.median(rows[:, 1] / rows[:, 2]))
            lines.append(
                f"| {backend} | {name}: {chosen.sum()} | {ms:.1f} | {rate:.0f} | "
                f"{matmul:.0f} | {100 * share:.0f} % | "
                f"{', '.join(f'{copy:.0f}' for copy in copies)} |"
            )
    return "\n".join(lines)


def read(path: Path) -> list[Turn]:
    """The turns of a CSV."""
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    return [Turn(name, *map(float, numbers)) for name, *numbers in rows]


def draw(turns: list[Turn], path: Path) -> None:
    """Rates over time, one panel for each backend; another's seconds are gaps."""
    from matplotlib.figure import Figure

    backends = list(dict.fromkeys(turn.backend for turn in turns))
    figure = Figure(figsize=(7, 2.6 * len(backends)), layout="constrained")
    panels = figure.subplots(len(backends), squeeze=False)
    for axes, backend in zip(panels[:, 0], backends, strict=True):
        own = [turn for turn in turns if turn.backend == backend]
        at = [turn.second for turn in own]
        names = "matmul_gflops", "product_gflops"
        for name, color in zip(names, OTHER_COLOURS, strict=False):
            rates = [getattr(turn, name) for turn in own]
            axes.plot(at, rates, ".", color=color, markersize=3, label=LABELS[name])
        axes.set(title=backend, xlabel="seconds", ylabel="Gflop/s")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main(arguments: Arguments) -> None:
    """Measure, write, draw and print.

    Raises:
        RuntimeError: a process failed.
    """
    settings = {"threads": arguments.threads, "seconds": arguments.seconds}
    turns: list[Turn] = []
    with tempfile.TemporaryDirectory(prefix="trpo-benchmark-") as folder:
        for plain in fisher_cells("cpu", arguments.backends * arguments.rounds):
            cell = dataclasses.replace(plain, kind=KIND)
            result = measure(cell, settings, Path(folder))
            if "turns" not in result:
                raise RuntimeError(f"{cell.title}: {result}")
            turns += [Turn(*fields) for fields in result["turns"]]
    start = turns[0].second
    turns = [turn._replace(second=turn.second - start) for turn in turns]
    folder = arguments.folder(RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{KIND}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Turn._fields)
        for name, *numbers in turns:
            writer.writerow([name, *(f"{number:.4g}" for number in numbers)])
    draw(turns, folder / f"{KIND}.png")
    Console().print(summary(turns), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main, Arguments)
