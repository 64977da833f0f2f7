"""Figures of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


# Of more curves the legend would hide them.
MOST_NAMED = 8


def plot_learning_curves(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, title: str
) -> None:
    """Draw return and KL over environment steps for one or several runs.

    Args:
        runs: Label -> rows of `metrics.csv`.
        path: PNG file to write.
        title: Title of the figure.
    """
    # Slow to import; `Figure` alone needs no display and leaves pyplot's state alone.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for label, rows in runs.items():
        for axes, name in (
            (left, "rollout/episode_return_mean"),
            (right, "policy/kl"),
        ):
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, linewidth=1.5)
    left.set_ylabel("episode return, mean of last 100")
    right.set_ylabel("mean KL(old || new), nats")
    for axes in (left, right):
        axes.set_xlabel("environment steps")
        axes.grid(alpha=0.3)
        if 1 < len(runs) <= MOST_NAMED and axes.lines:
            axes.legend()
    many = f", {len(runs)} runs" if len(runs) > MOST_NAMED else ""
    figure.suptitle(f"{title}{many}")
    figure.savefig(path, dpi=120)
