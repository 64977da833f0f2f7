"""The examples' scripts run, at a tenth of their size, and say what they promise."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest


EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = (
    "own_loop_torch",
    "own_loop_jax",
    "own_environment_and_network",
    "eight_seeds",
)


def example(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SHORT)
def test_a_script_has_sixty_lines_at_most(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 60


def test_a_loop_of_one_s_own_learns_alike_in_both_backends(monkeypatch):
    curves = [
        example(f"own_loop_{backend}", monkeypatch).train(4)
        for backend in ("torch", "jax")
    ]
    assert curves[0][-1] > 1.5 * curves[0][0]
    # The first rollouts are the same; later ones differ by rounding.
    assert curves[0][:2] == pytest.approx(curves[1][:2], rel=0.1)
    assert curves[1][-1] > 1.5 * curves[1][0]


def test_what_pytorch_trains_acts_alike_in_jax(tmp_path, monkeypatch):
    script = example("own_environment_and_network", monkeypatch)
    means = script.train(tmp_path / "run", 4_096)
    assert means["jax"] == pytest.approx(means["torch"], rel=1e-4)


def test_eight_seeds_are_trained_and_drawn(tmp_path, monkeypatch):
    final = example("eight_seeds", monkeypatch).train(tmp_path / "figure.png", 20_480)
    assert final.shape == (8,)
    assert len(np.unique(final)) > 1
    assert final.mean() > -4  # -6.7 where the point is left where it is.
    assert (tmp_path / "figure.png").stat().st_size > 1_000
