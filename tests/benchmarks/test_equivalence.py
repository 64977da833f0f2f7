"""Whether the backends learn equally: the verdict, and the rows that it is of."""

import threading

import numpy as np
import pytest

from benchmarks.csv_files import read_as
from benchmarks.learning import equivalence
from benchmarks.learning.equivalence import Row, compare
from tests.support.short_runs import run_benchmark


def returns(seed, mean, deviation, count=40):
    return np.random.default_rng(seed).normal(mean, deviation, count)


@pytest.mark.parametrize(
    ("mean", "count", "verdict"),
    [(200, 40, "equal"), (150, 40, "different"), (200, 3, "undecided")],
)
def test_verdict_by_difference_and_number_of_seeds(mean, count, verdict):
    jax, torch = returns(7, 200, 40, count), returns(8, mean, 60, count)
    found = compare(jax, torch, margin=40.0)
    assert found.verdict == verdict
    assert found.low < found.difference < found.high
    # The other way round all is mirrored.
    other = compare(torch, jax, margin=40.0)
    assert other.verdict == verdict
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low))


def test_equal_is_said_of_a_difference_of_the_margin_at_most_at_the_stated_level():
    said = [
        compare(returns(2 * i, 0.0, 30.0, 20), returns(2 * i + 1, 20.0, 30.0, 20), 20.0)
        for i in range(40)
    ]
    assert sum(found.verdict == "equal" for found in said) <= 6


def test_measures_are_of_the_last_checkpoint_and_of_all():
    rows = [
        Row("jax", "float32", 3, 200, 20.0, 5.0, 7.0),
        Row("jax", "float32", 3, 100, 10.0, None, None),
        Row("torch", "float32", 3, 200, 40.0, 6.0, 8.0),
    ]
    found = [of["jax"].tolist() for of in equivalence.measures(rows).values()]
    assert found == [[20.0], [15.0], [5.0], [7.0]]


@pytest.mark.slow
def test_a_run_is_evaluated_at_its_last_checkpoints(tmp_path, monkeypatch):
    spec = equivalence.LateSpec(
        "CartPole-v1", "torch", 3, (("total_steps", 7 * 1024),), kept=3
    )
    assert spec.run(tmp_path, threading.Event())
    rows = spec.rows(tmp_path)
    steps = spec.steps // spec.config.num_updates
    assert [row.step for row in rows] == [spec.steps - steps * i for i in (2, 1, 0)]
    assert [row.sampled is None for row in rows] == [True, True, False]
    last = spec.collect(tmp_path)[-1]
    assert rows[-1].deterministic == pytest.approx(last.scores[0])
    assert len({row.deterministic for row in rows}) > 1
    path = tmp_path / "CartPole-v1.csv"
    equivalence.write(path, rows)
    assert read_as(path, Row) == [
        row._replace(**{
            name: None if value is None else pytest.approx(value, abs=0.006)
            for name, value in zip(row._fields[4:], row[4:], strict=True)
        })
        for row in rows
    ]  # fmt: skip
    line = "python -m benchmarks.learning.equivalence"
    assert run_benchmark(line, f"--report-only --out {tmp_path}", monkeypatch) == 0
    assert "## CartPole-v1" in (tmp_path / "README.md").read_text()
