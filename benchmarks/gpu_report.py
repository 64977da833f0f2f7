"""Tables of what `benchmarks.gpu` found, from its files: `… DIR DEVICE` prints them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.command import COMMITTED
from benchmarks.csv_files import read_csv
from benchmarks.learning.compiled import report as compiled_report
from benchmarks.learning.training.rows import read_rows
from benchmarks.speed import prediction
from benchmarks.speed.problems import SMALL_GRID
from benchmarks.speed.report import analysis, tables
from benchmarks.speed.report.analysis import update_cell, update_seconds
from benchmarks.speed.samples import summarize
from benchmarks.speed.store import Store, store_path


def report(out: Path, device: str) -> str:
    """Every table; "not run" where there is no file."""
    update = Store(store_path(out / "throughput", "update", device))
    scaling = Store(store_path(out / "throughput", "scaling", device))
    parts = [
        ("Parity", _parity(out / "parity" / "parity.json")),
        ("Deterministic runs", _determinism(out / "determinism" / "determinism.csv")),
        ("Update", _update(update)),
        ("Update, held against its prediction", _predicted(update, device)),
        ("Compiled loop", compiled_report._speed(out / "compiled", device)),
        ("Memory", tables.scaling_table(scaling)),
        ("Training", _training(out / "training")),
    ]  # fmt: skip
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in parts)


def _update(store: Store) -> str:
    if not store.samples:
        return "not run"
    return f"{tables.machine(store)}\n\n{tables.update_tables(store, 'fixed')}"


def _parity(path: Path) -> str:
    if not path.exists():
        return "not run"
    devices = json.loads(path.read_text())["devices"]
    return tables.table(("device", "verdict"), devices.items())


def _determinism(path: Path) -> str:
    if not path.exists():
        return "not run"
    rows = read_csv(path)
    body = []
    for backend in dict.fromkeys(row["backend"] for row in rows):
        own = [row for row in rows if row["backend"] == backend]
        equal = len({row["sha256"] for row in own}) == 1
        body.append([backend, own[0]["device"], own[0]["steps"], str(len(own)),
                     "yes" if equal else "**no**"])  # fmt: skip
    return tables.table(("backend", "device", "steps", "runs", "same bytes"), body)


def _predicted(update: Store, device: str) -> str:
    """JAX's time at each size, beside that of each GPU on paper."""
    file = COMMITTED / "throughput" / prediction.LAUNCHES
    numbers = json.loads(file.read_text())
    body = []
    for size in SMALL_GRID:
        found = analysis.make_row(update, update_cell("jax", size, device))
        good = update.good(update_cell("jax", size, device))
        if not good:
            continue
        seconds = summarize([update_seconds(sample) for sample in good]).median
        paper = [prediction.predict(size, numbers[size.label], gpu).seconds
                 for gpu in prediction.GPUS.values()]  # fmt: skip
        body.append(
            [
                size.label,
                *(f"{1e3 * number:.1f}" for number in paper),
                f"{1e3 * seconds:.1f}",
                f"{numbers[size.label]:,}",
                tables.number(found.launches, ",.0f"),
            ]
        )
    names = (f"{name} predicted, ms" for name in prediction.GPUS)
    header = ("size", *names, "measured, ms", "launches predicted", "measured")
    return tables.table(header, body) if body else "not run at the sizes predicted"


def _training(folder: Path) -> str:
    header = ("file", "seed", "steps", "return", "training, s")
    body = list(_trained(folder))
    return tables.table(header, body) if body else "not run"


def _trained(folder: Path) -> Iterator[list[str]]:
    for path in sorted(folder.glob("*.csv")):
        last = {row.seed: row for row in read_rows(path)}
        for seed, row in last.items():
            mean, std, _, _ = row.scores
            yield [path.stem, str(seed), f"{row.step:,}", f"{mean:.1f} ± {std:.1f}",
                   f"{row.training_seconds:.0f}"]  # fmt: skip


if __name__ == "__main__":
    print(report(Path(sys.argv[1]), sys.argv[2]))
