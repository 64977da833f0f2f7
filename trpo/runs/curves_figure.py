"""Figures of runs' diagnostics."""

from collections.abc import Sequence
from typing import Any

from trpo.runs.curves import LoggedRun, Panel, panels_of, points, time_split
from trpo.runs.learning_curves import OTHER_COLOURS, label, without_tex


# Two: legible at the width of a page.
COLUMNS = 2
# More runs than this share one legend entry each on the page, not in every panel.
MOST_IN_LEGEND = 12


@without_tex
def draw(runs: Sequence[LoggedRun]) -> Any:
    """All panels, and the split of time, as a matplotlib figure."""
    # Slow to import; `Figure` alone needs no display and leaves pyplot's state alone.
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    palette = colormaps["tab10" if len(runs) <= 10 else "turbo"]
    shades = [
        palette(i if len(runs) <= 10 else i / len(runs)) for i in range(len(runs))
    ]
    drawn = panels_of(runs)
    height = -(-(len(drawn) + 1) // COLUMNS)
    figure = Figure(figsize=(4.4 * COLUMNS, 3.3 * height + 0.6), layout="constrained")
    panels = list(figure.subplots(height, COLUMNS).flat)
    for axes, panel in zip(panels, drawn, strict=False):
        _draw_panel(axes, panel, runs, shades)
    _draw_times(panels[len(drawn)], runs)
    for axes in panels[len(drawn) + 1 :]:
        axes.set_axis_off()
    if 1 < len(runs) <= MOST_IN_LEGEND:
        handles = [Line2D([], [], color=shade) for shade in shades]
        labels = [label(run.label) for run in runs]
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    titles = dict.fromkeys(f"{r.config.env_id}, {r.config.backend}" for r in runs)
    figure.suptitle(label("; ".join(titles)))
    return figure


def missing(panel: Panel, runs: Sequence[LoggedRun]) -> list[str]:
    """Labels of the runs that have no value for a panel's measured curves."""
    measured = [curve for curve in panel.curves if not curve.dashed]
    return [run.label for run in runs if not any(points(run, c)[0] for c in measured)]


def _draw_panel(
    axes: Any, panel: Panel, runs: Sequence[LoggedRun], shades: Sequence[Any]
) -> None:
    axes.set_title(panel.title, fontsize="medium")
    lacking = missing(panel, runs)
    if len(lacking) == len(runs):
        _say(axes, "not in these metrics")
        return
    for run, shade in zip(runs, shades, strict=True):
        for curve in panel.curves:
            steps, values = points(run, curve)
            style = {"linestyle": "--", "alpha": 0.6} if curve.dashed else {}
            # A single point is no line.
            mark = "o" if len(steps) == 1 or curve.label == "evaluation" else None
            axes.plot(steps, values, color=shade, marker=mark, ms=3, lw=1.3, **style)
    named = [curve for curve in panel.curves if curve.label]
    if len(named) > 1:
        for curve in named:
            style = "--" if curve.dashed else "-"
            axes.plot([], [], color="gray", linestyle=style, label=curve.label)
        axes.legend(fontsize="small")
    if lacking:
        title = f"{panel.title}\nnot in: {', '.join(map(label, lacking))}"
        axes.set_title(title, fontsize="small")
    _scale(axes, panel)
    axes.set_xlabel("environment steps")
    axes.grid(alpha=0.3)


def _scale(axes: Any, panel: Panel) -> None:
    if panel.logarithmic:
        axes.set_yscale("log")
    if panel.counts:
        axes.set_ylim(bottom=0)


def _draw_times(axes: Any, runs: Sequence[LoggedRun]) -> None:
    """A bar a run, parted into what its time went to."""
    axes.set_title("seconds of wall time", fontsize="medium")
    splits = [time_split(run) for run in runs]
    parts = list(dict.fromkeys(part for split in splits for part in split))
    if not parts:
        _say(axes, "not in these metrics")
        return
    rows, left = list(range(len(runs))), [0.0] * len(runs)
    for part, color in zip(parts, OTHER_COLOURS, strict=False):
        widths = [split.get(part, 0.0) for split in splits]
        axes.barh(rows, widths, left=left, label=part, color=color)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    # Names inside: beside the axis, long ones would take the other panels' room.
    axes.set_yticks([])
    for row, run in zip(rows, runs, strict=True):
        at = {"transform": axes.get_yaxis_transform(), "va": "center"}
        axes.text(0.02, row, label(run.label), color="white", fontsize="small", **at)
    # The first on top, and room for the legend below the last.
    axes.set_ylim(len(runs) + 0.1, -0.5)
    axes.set_xlabel("seconds")
    axes.legend(loc="lower center", ncols=len(parts), fontsize="small")


def _say(axes: Any, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", color="gray")
    axes.set_xticks([])
    axes.set_yticks([])
