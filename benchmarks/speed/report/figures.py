"""Figures of the timing benchmarks: throughput, roofline, split of time."""

import itertools
from pathlib import Path

import matplotlib as mpl
import numpy as np


mpl.use("Agg")  # No display is needed, and none may be there.

from matplotlib import pyplot as plt

from benchmarks.speed.cell import SUBJECTS
from benchmarks.speed.problems import SMALL_GRID
from benchmarks.speed.report import analysis
from benchmarks.speed.report.targets import (
    acting_microseconds,
    floor_microseconds,
    scaling_points,
    training_cells,
)
from benchmarks.speed.store import Store
from trpo.runs.learning_curves import COLOURS, OTHER_COLOURS


ACTING_PARTS = (
    "policy", "checks and episodes", "log-probabilities and values", "values at ends",
    "records", "rest", "in all",
)  # fmt: skip


def throughput(update: Store, scaling: Store, path: Path) -> None:
    """Samples per second against batch size, one line per subject and network."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    sizes = [s for s in analysis.sizes(update) if s.name == "HalfCheetah"]
    networks = sorted({(64, 64), *(size.layers for size in sizes)})
    styles = dict(zip(networks, itertools.cycle(("-", "--", ":", "-.")), strict=False))
    for subject, color in COLOURS.items():
        for layers, style in styles.items():
            points = {}
            if layers == (64, 64):
                points = dict(scaling_points(scaling, subject))
            for size in (s for s in sizes if s.layers == layers):
                row = analysis.make_row(
                    update, analysis.update_cell(subject, size, "cpu")
                )
                if row.update:
                    points[size.samples] = row.update.median
            if points:
                batches = sorted(points)
                speeds = [batch / points[batch] for batch in batches]
                line = {"color": color, "marker": "o", "linestyle": style}
                line["label"] = f"{SUBJECTS[subject]}, {'-'.join(map(str, layers))}"
                axes.loglog(batches, speeds, **line)
    axes.set(xlabel="samples in the batch", ylabel="samples per second")
    axes.set_title("Update throughput on CPU, HalfCheetah sizes (GPU: not run)")
    axes.grid(alpha=0.3, which="both")
    if axes.lines:
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def roofline(update: Store, path: Path) -> None:
    """Achieved rate of each update against its arithmetic intensity."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    limits = analysis.peaks(update)
    if limits is not None:
        _draw_roofline(axes, update, limits)
    axes.set(xlabel="operations per byte of an update", ylabel="GFLOP/s")
    axes.set_title("Whole updates against the machine's roofline")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_roofline(axes: plt.Axes, update: Store, limits: analysis.Peaks) -> None:
    intensity = np.logspace(-1, 4, 100)
    roof = np.minimum(limits.matmul, limits.bandwidth * intensity)
    axes.loglog(intensity, roof / 1e9, "k-", label="measured roofline")
    for subject, color in COLOURS.items():
        drawn = False
        for size in analysis.sizes(update):
            cell = analysis.update_cell(subject, size, "cpu")
            row, work = analysis.make_row(update, cell), analysis.nominal_work(size)
            if row.update is None:
                continue
            axes.loglog(
                work.flops / work.traffic, work.flops / row.update.median / 1e9, "o",
                color=color, alpha=0.7, label=None if drawn else SUBJECTS[subject],
            )  # fmt: skip
            drawn = True
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)


def time_split(update: Store, training: Store, path: Path) -> None:
    """Where the time goes: in an update, and in a training iteration."""
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(7, 8.5), height_ratios=(3, 1), layout="constrained"
    )
    bars = []
    for size in SMALL_GRID:
        for subject in COLOURS:
            cell = analysis.update_cell(subject, size, "cpu")
            row = analysis.make_row(update, cell)
            if row.policy is not None and row.critic is not None:
                name = f"{SUBJECTS[subject]}, {size.label.partition(' ')[2]}"
                scale = 1e6 / size.samples
                parts = {"policy step": scale * row.policy}
                bars.append((name, {**parts, "critic fit": scale * row.critic}))
    _stacked(upper, bars, "one update, µs per sample")
    bars = []
    for subject in COLOURS:
        cell = training_cells(training, "HalfCheetah-v5", 8).get(subject)
        if cell is not None and training.good(cell):
            parts = {
                name: analysis.median_of(training, cell, name) or 0.0
                for name in ("acting", "stepping", "learning")
            }
            bars.append((SUBJECTS[subject], parts))
    _stacked(lower, bars, "2,048 steps of HalfCheetah-v5, 8 environments, s")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def acting_profile(training: Store, path: Path) -> None:
    """Where the time of acting goes, µs of a step, beside the peers' whole.

    A line across a bar: what no loop can do without, with warm caches.
    """
    bars, least = [], {}
    for cell in sorted(
        training.cells(lambda c: c.kind == "training"),
        key=lambda c: (c.num_envs, c.env_id, c.subject),
    ):
        good = training.good(cell)
        if not good:
            continue
        name = f"{SUBJECTS[cell.subject]}, {cell.num_envs} x {cell.env_id}"
        parts = dict.fromkeys(ACTING_PARTS, 0.0)
        if "profile" in good[0]:
            for part in good[0]["profile"]:
                parts[part] = float(np.median([s["profile"][part] for s in good]))
        else:
            parts["in all"] = acting_microseconds(training, cell) or 0.0
        if (floor := floor_microseconds(training, cell)) is not None:
            least[len(bars)] = floor
        bars.append((name, parts))
    height = 1.5 + 0.22 * len(bars)
    figure, axes = plt.subplots(figsize=(8, height), layout="constrained")
    if least:
        rows, floors = zip(*least.items(), strict=True)
        label = "what no loop can do without, alone"
        axes.plot(floors, rows, "|", color="black", markersize=9, label=label, zorder=3)
    _stacked(axes, bars, "acting and collecting, µs of a step of all environments")
    # The same samples make the same file.
    with plt.rc_context({"svg.hashsalt": "trpo"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _stacked(axes: plt.Axes, bars: list[tuple[str, dict[str, float]]], of: str) -> None:
    """Horizontal bars, one below the other, made of named parts."""
    names = [name for name, _ in bars]
    start = np.zeros(len(bars))
    parts = list(bars[0][1]) if bars else []
    assert len(parts) <= len(OTHER_COLOURS)  # Else one would be left out.
    for part, color in zip(parts, OTHER_COLOURS, strict=False):
        lengths = np.array([of_bar[part] for _, of_bar in bars])
        axes.barh(range(len(bars)), lengths, left=start, label=part, color=color)
        start += lengths
    axes.set_yticks(range(len(bars)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(of)
    if bars:
        axes.legend(fontsize=8)
    else:
        axes.text(0.5, 0.5, "not run", ha="center", transform=axes.transAxes)
