"""Figures of a run."""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from trpo.common.terminal import visible
from trpo.common.user_modules import import_matplotlib


# One colour for each backend and peer, in every figure.
COLOURS = {
    "jax": "tab:blue", "torch": "tab:orange", "sb3-contrib": "tab:green",
    "tianshou": "tab:red",
}  # fmt: skip
# Of what is no backend, so that a colour is not taken for one.
_NAMES = "purple", "brown", "pink", "olive", "cyan", "gray", "green"
OTHER_COLOURS = [f"tab:{name}" for name in _NAMES]
# Of more curves the legend would be longer than the figure.
MOST_NAMED = 30
# Characters of a name that fits beside another.
LONGEST_BESIDE = 32
MARKS = "osD^v"
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

    named = 1 < len(runs) <= MOST_NAMED
    # Panels one above the other, and the legend below: legible on a phone.
    columns = 2 if max(map(len, runs), default=0) <= LONGEST_BESIDE else 1
    height = 6.4 + (0.18 * -(-len(runs) // columns) if named else 0.0)
    figure = Figure(figsize=(6.4, height), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for i, (name, rows) in enumerate(runs.items()):
        for axes, column, style in (
            (upper, "rollout/episode_return_mean", line_style(i, len(runs), len(rows))),
            (lower, "policy/kl", line_style(i, len(runs), len(rows))),
            # A radius that falls explains a KL that falls.
            (lower, "policy/target_kl", {"linestyle": "--", "lw": 1.0, "alpha": 0.6}),
        ):
            kept = [row for row in rows if can_be_drawn(row.get(column))]
            points = [(row["step"], row[column]) for row in kept]
            if points:
                colour = COLOURS.get(name) or _shade(i, len(runs))
                lines = axes.plot(*zip(*points, strict=True), color=colour, **style)
                if axes is upper:
                    lines[0].set_label(label(name))
    upper.set_ylabel("episode return, mean of last 100")
    lower.set_ylabel("KL(old || new), nats; dashed: bound")
    lower.set_xlabel("environment steps")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    handles, labels = upper.get_legend_handles_labels()
    if named and handles:
        place = {"loc": "outside lower center", "ncols": columns}
        figure.legend(handles, labels, fontsize="small", **place)
    many = f", {len(runs)} runs" if len(runs) > MOST_NAMED else ""
    figure.suptitle(label(f"{title}{many}"))
    return png(figure)


def line_style(index: int, count: int, points: int) -> dict[str, Any]:
    """Style of a curve, with marks at its own places: of equal curves, each is seen."""
    every = max(count, points // 6)
    marks = {"marker": MARKS[index % len(MARKS)], "ms": 4.0}
    return {"lw": 1.5, **marks, "markevery": (index * every // count, every)}


def _shade(index: int, count: int) -> Any:
    from matplotlib import colormaps

    return f"C{index}" if count <= 10 else colormaps["turbo"](index / count)
