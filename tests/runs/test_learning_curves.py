"""What the figures of runs show: colours, marks, legends, the target of the KL."""

import importlib
import io

import pytest
from matplotlib import colors
from matplotlib.image import imread

from trpo.runs import learning_curves
from trpo.runs.learning_curves import COLOURS, learning_curves_png


ROWS = [
    {
        "step": 100 * i,
        "rollout/episode_return_mean": float(i),
        "policy/kl": 0.002 * (i % 4),
        "policy/target_kl": 0.01,
    }
    for i in range(1, 41)
]


@pytest.fixture
def figures(monkeypatch):
    """Figures as they are before they are a file's content."""
    drawn = []

    def keep(figure, dpi=120):
        figure.draw_without_rendering()
        drawn.append(figure)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=dpi)
        return content.getvalue()

    monkeypatch.setattr(learning_curves, "png", keep)
    return drawn


def test_equal_curves_of_both_backends_are_both_seen(figures):
    content = learning_curves_png({"torch": ROWS, "jax": ROWS}, "equal")
    pixels = imread(io.BytesIO(content))[..., :3]
    for name in ("torch", "jax"):
        close = abs(pixels - colors.to_rgb(COLOURS[name])).sum(-1) < 0.05
        assert close.sum() > 200, name
    upper, lower = figures[0].axes
    assert {line.get_color() for line in upper.lines} == {
        COLOURS["torch"],
        COLOURS["jax"],
    }
    dashed = [line for line in lower.lines if line.get_linestyle() == "--"]
    assert {y for line in dashed for y in line.get_ydata()} == {0.01}


@pytest.mark.parametrize("count", [1, 2, 24, 31])
def test_the_legend_names_each_curve_and_covers_none(figures, count):
    names = [f"target_kl=0.01,gae_lambda=0.9,seed={i}" for i in range(count)]
    learning_curves_png(dict.fromkeys(names, ROWS), "many")
    (figure,) = figures
    assert [axes.get_legend() for axes in figure.axes] == [None, None]
    if count in (1, 31):
        assert figure.legends == []
        return
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    for axes in figure.axes:
        assert not box.overlaps(axes.get_window_extent())


def test_every_figure_has_the_same_colour_for_a_backend():
    for name in ("learning.training", "speed.report"):
        figures = importlib.import_module(f"benchmarks.{name}.figures")
        assert figures.COLOURS is COLOURS
