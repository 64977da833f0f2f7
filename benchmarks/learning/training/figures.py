"""The study's learning curves, drawn from its CSV files alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning.training.published import PUBLISHED
from benchmarks.learning.training.rows import Row, read_results
from trpo.runs.learning_curves import COLOURS, line_style
from trpo.sweeps.statistics import bootstrap_interval, interquartile_mean


COLUMNS = 2


def thousands(value: float, _: Any = None) -> str:
    """Environment steps as an axis has them."""
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k"


def draw_curves(results: Path) -> Path:
    """Write `learning_curves.png` beside the CSV files; returns its path."""
    from matplotlib.figure import Figure

    data = read_results(results)
    env_ids = list(dict.fromkeys(env_id for env_id, _ in data))
    data |= read_results(results / "peers")
    columns = min(COLUMNS, max(1, len(env_ids)))
    lines = max(1, math.ceil(len(env_ids) / columns))
    figure = Figure(
        figsize=(3.1 * columns + 0.6, 2.5 * lines + 0.5), layout="constrained"
    )
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, env_id in zip(grid, env_ids, strict=False):
        for backend, color in COLOURS.items():
            if curves := data.get((env_id, backend)):
                label = f"{backend}, {len(curves)} seed{'s' * (len(curves) > 1)}"
                place = list(COLOURS).index(backend)
                draw_band(axes, list(curves.values()), color, label, place)
        if published := PUBLISHED.get(env_id):
            axes.axhline(published.mean, color="0.35", ls=":", lw=1.2)
        axes.set_title(env_id, fontsize=10)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=8, loc="best")
        axes.xaxis.set_major_formatter(thousands)
    for axes in grid[len(env_ids) :]:
        axes.set_axis_off()
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("return, deterministic policy", fontsize=9)
    figure.suptitle(
        "Interquartile mean over seeds, 95 % bootstrap band; dotted: best published "
        "TRPO",
        fontsize=9,
    )
    path = results / "learning_curves.png"
    figure.savefig(path, dpi=120)
    return path


def draw_band(
    axes: Any, curves: list[list[Row]], color: str, label: str, place: int
) -> None:
    """Interquartile mean of the seeds' returns over steps, and its interval.

    Args:
        axes: Where to draw.
        curves: Rows of each seed; steps that all have are drawn.
        color: Of line and band.
        label: For the legend.
        place: Of its marks among those of others, so that of equal curves each is seen.
    """
    by_step = [{row.step: row.scores[0] for row in curve} for curve in curves]
    steps = sorted(set.intersection(*map(set, by_step)))
    scores = np.array([[curve[step] for step in steps] for curve in by_step])
    style = line_style(place, len(COLOURS), len(steps))
    mean = interquartile_mean(scores, axis=0)
    axes.plot(steps, mean, color=color, label=label, **style)
    if len(curves) > 1:
        low, high = bootstrap_interval(scores)
        axes.fill_between(steps, low, high, color=color, alpha=0.2, lw=0)
