"""The table and the figure of a sweep."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trpo.common.files import Folder
from trpo.runs.learning_curves import can_be_drawn, label, png, without_tex
from trpo.runs.metrics import csv_lines, read_metrics
from trpo.sweeps.statistics import bootstrap_interval, interquartile_mean


class SweepRow(NamedTuple):
    """The result of one run.

    Attributes:
        env_id: Gymnasium id.
        setting: what was swept, in words.
        seed: of the run.
        mean: return of the final evaluation.
        std: its population standard deviation over episodes.
        path: run directory.
    """

    env_id: str
    setting: str
    seed: int
    mean: float
    std: float
    path: Path


COLUMNS = ("environment", "setting", "seeds", "return, mean ± std over seeds",
           "IQM, 95 % interval", "worst")  # fmt: skip


def write_report(
    rows: Sequence[SweepRow], root: Path
) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """Write results.csv, results.md and learning_curves.png.

    Returns:
        The table's columns and rows.
    """
    names = ("env_id", "setting", "seed", "return_mean", "return_std")
    table = []
    for (env_id, setting), group in _groups(rows):
        means = np.array([row.mean for row in group])
        low, high = bootstrap_interval(means)
        # Of one seed there is no spread to speak of.
        many = len(means) > 1
        spread = f" ± {means.std():.2f}" if many else ""
        interval = f", {low:.2f} to {high:.2f}" if many else ""
        table.append(
            (
                env_id, setting, str(len(means)), f"{means.mean():.2f}{spread}",
                f"{interquartile_mean(means):.2f}{interval}", f"{means.min():.2f}",
            )
        )  # fmt: skip
    lines = [f"| {' | '.join(cells)} |" for cells in (COLUMNS, *table)]
    text = "\n".join([lines[0], "|---|---|---:|---:|---:|---:|", *lines[1:]])
    with Folder(root) as folder:
        folder.write("results.csv", csv_lines([names, *(row[:5] for row in rows)]))
        folder.write("results.md", f"{text}\n".encode())
        if rows:
            folder.write("learning_curves.png", _drawn(rows))
    return COLUMNS, table


def _groups(rows: Sequence[SweepRow]) -> list[tuple[tuple[str, str], list[SweepRow]]]:
    """Environment and setting, and the rows of all seeds, which follow each other."""
    groups = itertools.groupby(rows, key=lambda row: (row.env_id, row.setting))
    return [(key, list(group)) for key, group in groups]


@without_tex
def _drawn(rows: Sequence[SweepRow]) -> bytes:
    """Return over steps, one panel an environment, the mean of each setting's seeds."""
    # Slow to import.
    from matplotlib.figure import Figure

    env_ids = list(dict.fromkeys(row.env_id for row in rows))
    figure = Figure(figsize=(4.5 * len(env_ids), 3.4), layout="constrained")
    panels = figure.subplots(1, len(env_ids), squeeze=False)[0]
    for axes, env_id in zip(panels, env_ids, strict=True):
        for (env, setting), group in _groups(rows):
            if env == env_id:
                steps, means = _mean_curve([row.path for row in group])
                axes.plot(steps, means, label=label(f"{setting} ({len(group)})"))
        axes.set_title(label(env_id))
        axes.set_xlabel("environment steps")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    panels[0].set_ylabel("episode return, mean of last 100")
    return png(figure)


def _mean_curve(paths: Sequence[Path]) -> tuple[list[float], list[float]]:
    """Steps at which any of the runs has a return, and the mean of those that do."""
    name = "rollout/episode_return_mean"
    values: dict[float, list[float]] = {}
    for path in paths:
        for row in read_metrics(path / "metrics.csv"):
            if can_be_drawn(row.get(name)):
                values.setdefault(row["step"], []).append(row[name])
    steps = sorted(values)
    return steps, [float(np.mean(values[step])) for step in steps]
