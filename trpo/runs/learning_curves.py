"""Figures of a run."""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from trpo.common.terminal import visible
from trpo.common.user_modules import import_matplotlib


# Of more curves the legend would hide them.
MOST_NAMED = 8
# Beyond, matplotlib's own sums overflow.
LARGEST_DRAWN = 1e300
_P = ParamSpec("_P")
_T = TypeVar("_T")


def label(name: object) -> str:
    """A name as matplotlib draws it, no mathematics and not left out of a legend."""
    text = visible(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def can_be_drawn(value: float | None) -> bool:
    """Whether it is a number that has a place in a figure: no NaN, no infinity."""
    return value is not None and abs(value) <= LARGEST_DRAWN


def without_tex(draw: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have a figure drawn by matplotlib alone, whatever its settings here say."""

    @functools.wraps(draw)
    def drawing(*args: _P.args, **options: _P.kwargs) -> _T:
        # Slow to import.
        import_matplotlib()
        import matplotlib

        with matplotlib.rc_context({"text.usetex": False}):
            return draw(*args, **options)

    return drawing


def png(figure: Any, dpi: int = 120) -> bytes:
    """A matplotlib figure as the content of a file, which is ours to write."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


@without_tex
def learning_curves_png(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], title: str
) -> bytes:
    """Draw return, and KL with its bound, over environment steps of runs.

    Args:
        runs: Label -> rows of `metrics.csv`.
        title: Title of the figure.
    """
    # Slow to import; `Figure` alone needs no display and leaves pyplot's state alone.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, rows) in enumerate(runs.items()):
        for axes, column, style in (
            (left, "rollout/episode_return_mean", {"label": label(name), "lw": 1.5}),
            (right, "policy/kl", {"label": label(name), "lw": 1.5}),
            # A radius that falls explains a KL that falls.
            (right, "policy/target_kl", {"linestyle": "--", "lw": 1.0, "alpha": 0.6}),
        ):
            kept = [row for row in rows if can_be_drawn(row.get(column))]
            points = [(row["step"], row[column]) for row in kept]
            if points:
                axes.plot(*zip(*points, strict=True), color=f"C{i}", **style)
    left.set_ylabel("episode return, mean of last 100")
    right.set_ylabel("KL(old || new), nats; dashed: bound")
    for axes in (left, right):
        axes.set_xlabel("environment steps")
        axes.grid(alpha=0.3)
        if 1 < len(runs) <= MOST_NAMED and axes.lines:
            axes.legend()
    many = f", {len(runs)} runs" if len(runs) > MOST_NAMED else ""
    figure.suptitle(label(f"{title}{many}"))
    return png(figure)
