"""The option study trains, times and reports each option beside the preset."""

import csv

import numpy as np
import pytest

from benchmarks.learning.options import __main__ as option_study
from benchmarks.learning.options.rows import OPTIONS, PRESET
from benchmarks.learning.training.runs import RunSpec


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_a_setting_that_differs_from_the_preset(name):
    for env_id in option_study.BUDGETS:
        plain = RunSpec(env_id, "jax", 0).config
        changed = RunSpec(env_id, "jax", 0, OPTIONS[name]).config
        assert (plain != changed) == (name != PRESET)


@pytest.mark.slow
def test_a_study_of_one_option(tmp_path):
    arguments = option_study.Arguments(
        envs=("Pendulum-v1",),
        seeds=(3,),
        backend="torch",
        only="SGD",
        total_steps=1600,
        seconds=0.1,
        runs=tmp_path / "runs",
        out=tmp_path / "results",
    )
    assert option_study.main(arguments) == 0
    with (tmp_path / "results" / "Pendulum-v1-torch.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["option"] for row in rows] == [PRESET, "SGD"]
    products = [float(row["products"]) for row in rows]
    assert all(1 <= count <= 10 for count in products)
    text = (tmp_path / "results" / "Pendulum-v1-torch.md").read_text()
    assert "| SGD (`optimizer_type=sgd`) |" in text
    ratio = float(text.split("| SGD")[1].split("|")[-2])
    assert np.isfinite(ratio)
    assert ratio > 0
