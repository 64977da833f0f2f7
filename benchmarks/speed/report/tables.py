"""Markdown tables of the timing benchmarks."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.csv_files import read_csv
from benchmarks.speed.cell import SUBJECTS, Cell
from benchmarks.speed.measures.training import BATCH
from benchmarks.speed.problems import SMALL_GRID, Size
from benchmarks.speed.report import analysis
from benchmarks.speed.report.analysis import Row
from benchmarks.speed.report.targets import (
    SB3,
    Stores,
    Target,
    acting_microseconds,
    ceiling_share,
    scaling_points,
    training_cells,
)
from benchmarks.speed.samples import summarize
from benchmarks.speed.store import Store


COLUMNS = (
    "variant", "samples/s", "ms per update", "policy step, ms", "critic fit, ms",
    "first call, s", "with warm cache, s", "peak memory, MB", "of roofline",
    "float32 error, policy", "critic", "ring B", "CG, line search",
    "kernel launches",
)  # fmt: skip


PEAKS = ("peak of the process, GB", "of the accelerator, GB")


def table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, form: str = ".3g", scale: float = 1.0) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value * scale:{form}}"


def machine(store: Store) -> str:
    """The machine and the settings in words."""
    about: dict[str, Any] = store.about.get("fingerprint", {})
    limits = analysis.peaks(store)
    note = store.about.get("note")
    packages = ", ".join(f"{k} {v}" for k, v in about.get("packages", {}).items())
    loads = [sample["load"] for sample in store.samples] or [0.0]
    load = summarize(loads)
    lines = [f"- **{note}**"] if note else []
    lines += [
        f"- {about.get('processor')}, {about.get('cores')} cores, "
        f"{about.get('memory_gib')} GiB, L2 {about.get('cache_l2')}, L3 "
        f"{about.get('cache_l3')}; accelerator: {about.get('accelerator')}",
        f"- {about.get('threads')} threads in every process; governor "
        f"{about.get('governor')}; load average {load.median:.2f}, up to "
        f"{max(loads):.2f}",
        f"- Python {about.get('python')}, {about.get('system')}; {packages}",
    ]
    if limits:
        lines.append(
            f"- measured in the same run: {limits.matmul / 1e9:.1f} GFLOP/s float32 "
            f"matrix products, {limits.bandwidth / 1e9:.1f} GB/s copying"
        )
    return "\n".join(lines)


def update_tables(store: Store, mode: str) -> str:
    """One table for each size."""
    parts = []
    for size in analysis.sizes(store):
        found = list(analysis.rows(store, size, mode))
        if found:
            floor = analysis.floor_of(store, size)
            parts.append(
                f"### {size.label}\n\n{table(COLUMNS, map(_update_row, found))}\n\n"
                f"{ratios(store, size, found, floor)}"
            )
    return "\n\n".join(parts) or "not run"


def _update_row(row: Row) -> list[str]:
    if row.why_not or row.update is None or row.cell.size is None or row.work is None:
        return [row.name, row.why_not, *["–"] * (len(COLUMNS) - 2)]
    update = row.update
    return [
        row.name,
        f"{row.cell.size.samples / update.median:,.0f}",
        f"{1e3 * update.median:.1f} ± {0.5e3 * update.spread:.1f}",
        number(row.policy, ".1f", 1e3),
        number(row.critic, ".1f", 1e3),
        number(row.cold, ".2f"),
        number(row.warm, ".2f") if _compiles(row.cell) else "–",
        number(row.memory, ".0f", 1e-6),
        number(row.roofline, ".0f", 100) + (" %" if row.roofline else ""),
        number(row.error_policy, ".1e"),
        number(row.error_value, ".1e"),
        number(row.ring_b, ".2f"),
        f"{row.work['cg_iterations']:.0f}, {row.work['candidates']:.0f}",
        number(row.launches, ",.0f"),
    ]


def _compiles(cell: Cell) -> bool:
    return cell.subject == "jax" or cell.subject.startswith("torch-")


def ratios(store: Store, size: Size, found: list[Row], floor: float) -> str:
    """Ratios to the peers, and between the backends, where they exceed the noise."""
    cells = {row.cell.subject: row.cell for row in found
             if row.update and row.cell.precision == "float32"}  # fmt: skip
    lines = [f"Noise floor of this size (the same thing run twice): {floor:.3f}x."]
    if math.isinf(floor):
        lines = ["Nothing was run twice at this size, so no ratio is claimed."]
    for slow in ("sb3-contrib", "tianshou", "torch"):
        for fast in ("jax", "torch"):
            if slow == fast or not {slow, fast} <= cells.keys():
                continue
            ratio = analysis.compare(store, cells[slow], cells[fast])
            if ratio is None:
                continue
            who = SUBJECTS[slow]
            interval = f"(95 %: {ratio.low:.2f} to {ratio.high:.2f})"
            claim = f"takes {ratio.value:.2f}x {SUBJECTS[fast]}'s time {interval}"
            if not ratio.is_claimed(floor):
                claim = f"no claim against {SUBJECTS[fast]}: noise, or too few rounds"
            lines.append(f"{who}: {claim}.")
    return "  \n".join(lines)


def fisher_table(store: Store) -> str:
    """Fisher products against the matrix-product peak."""
    body = []
    for backend in ("jax", "torch"):
        found = analysis.fisher_fraction(store, backend)
        if found is not None:
            fraction, seconds = found
            body.append(
                [SUBJECTS[backend], f"{1e3 * seconds:.1f}", f"{100 * fraction:.1f} %"]
            )
    header = ("backend", "ms per product", "of the matrix-product peak")
    return table(header, body) if body else "not run"


def training_table(store: Store) -> str:
    """Steps per second and their split."""
    keys = dict.fromkeys(
        (c.env_id, c.num_envs) for c in store.cells(lambda c: c.kind == "training")
    )
    body = []
    for env_id, num_envs in sorted(keys):
        cells = training_cells(store, env_id, num_envs)
        for subject in (name for name in SUBJECTS if name in cells):
            body.append(_training_row(store, cells[subject], cells.get(SB3)))
    header = (
        "environment", "environments", "subject", "steps/s", f"x {SB3}",
        "acting, µs of a step", f"of {SB3}'s", "stepping, s", "learning, s",
        "of the ceiling",
    )  # fmt: skip
    return table(header, body) if body else "not run"


def _training_row(store: Store, cell: Cell, peer: Cell | None) -> list[str]:
    good = store.good(cell)
    start = [cell.env_id, str(cell.num_envs), SUBJECTS[cell.subject]]
    if not good:
        return [*start, store.why_not(cell), *["–"] * 6]
    speed = summarize([sample["steps_per_second"] for sample in good])
    acting = summarize([1e6 * s["acting"] * cell.num_envs / BATCH for s in good])
    base = peer and analysis.median_of(store, peer, "steps_per_second")
    other = peer and acting_microseconds(store, peer)
    parts = (analysis.median_of(store, cell, p) for p in ("stepping", "learning"))
    return [
        *start,
        f"{speed.median:,.0f} ± {speed.spread / 2:,.0f}",
        number(speed.median / base if base else None, ".2f"),
        f"{acting.median:,.0f} ± {acting.spread / 2:,.0f}",
        number(acting.median / other if other else None, ".2f"),
        *(number(part, ".3f") for part in parts),
        number(ceiling_share(store, cell), ".2f"),
    ]


def before_table(path: Path) -> str:
    """Training by a preset, now and at an older commit."""
    if not path.exists():
        return "not run"
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return table(header, rows)


def acting_table(store: Store) -> str:
    """Latency of `act`."""
    body = [
        [
            SUBJECTS[cell.subject],
            number(analysis.median_of(store, cell, "seconds"), ".0f", 1e6),
            number(analysis.median_of(store, cell, "seconds_99"), ".0f", 1e6),
        ]
        for cell in store.cells(lambda c: c.kind == "act")
        if store.good(cell)
    ]
    header = ("subject", "median, µs", "99th percentile, µs")
    return table(header, body) if body else "not run"


def scaling_table(store: Store) -> str:
    """Time and memory against batch size."""
    cells = list(store.cells(lambda c: c.kind == "scaling"))
    body = []
    for cell in sorted(cells, key=lambda c: (c.subject, c.size)):
        good = store.good(cell)
        assert cell.size is not None
        start = [SUBJECTS[cell.subject], f"{cell.size.samples:,}"]
        if not good:
            body.append([*start, store.why_not(cell), "–", "–"])
            continue
        times = summarize([analysis.update_seconds(sample) for sample in good])
        peaks = (
            analysis.median_of(store, cell, name)
            for name in ("peak_bytes_total", "device_peak_bytes")
        )
        memory = (number(peak, ".2f", 1e-9) for peak in peaks)
        body.append([*start, f"{times.median:.3f}", *memory])
    header = ("backend", "samples", "s per update", *PEAKS)
    return table(header, body) if body else "not run"


def targets_table(targets: Sequence[Target]) -> str:
    """Every target and what was measured."""
    verdicts = {True: "yes", False: "**no**", None: "–"}
    body = [[t.text, t.measured, verdicts[t.met], f"`{t.command}`"] for t in targets]
    return table(("target", "measured", "met", "command"), body)


def attempts_table(folder: Path, topic: str) -> str:
    """What was tried for one target, as it was noted then."""
    rows = [row for row in read_csv(folder / "attempts.csv") if row["topic"] == topic]
    names = ("attempt", "measured", "kept")
    return table(names, [[row[name] for name in names] for row in rows])


def against_table(folder: Path) -> str:
    """Times of an update over those of older commits."""
    rows = read_csv(folder / "against.csv")
    body = [
        [
            row["revision"],
            row["backend"],
            f"{int(row['samples']):,} x {row['units']}-{row['units']}",
            f"{row['ratio']} [{row['low']}, {row['high']}]",
            f"[{row['noise low']}, {row['noise high']}]",
        ]
        for row in rows
    ]
    header = ("commit", "backend", "size", "ratio", "the same code twice")
    return table(header, body)


def readme_table(stores: Stores) -> str:
    """The few numbers that the README shows."""
    names = ("jax", "torch", "sb3-contrib", "tianshou")
    body = []
    for size in SMALL_GRID:
        line = [size.label]
        for name in names:
            cell = analysis.update_cell(name, size, "cpu")
            good = stores.update.good(cell)
            times = [analysis.update_seconds(sample) for sample in good]
            line.append(f"{1e3 * summarize(times).median:.1f}" if times else "not run")
        body.append(line)
    return table(("one update, ms", *(SUBJECTS[name] for name in names)), body)


def has_points(store: Store) -> bool:
    """Whether the scaling benchmark has anything to draw."""
    return any(scaling_points(store, backend) for backend in ("jax", "torch"))
