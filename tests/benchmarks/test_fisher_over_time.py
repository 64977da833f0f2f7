"""The speed of Fisher products over time, beside the machine's."""

import csv

import numpy as np
import pytest

from benchmarks.speed.fisher_over_time import Turn, is_slow, summary
from tests.support.short_runs import run_benchmark


def turns(times, backend="jax"):
    return [
        Turn(backend, float(i), ms, 4600 / ms, 450.0, 200.0, 120.0, 40.0)
        for i, ms in enumerate(times)
    ]


def test_turns_are_slow_by_the_median_of_the_faster_half():
    slow = is_slow(turns([12.0, 19.0, 13.0, 20.0, 12.5, 14.0, 21.0]))
    assert slow.tolist() == [False, True, False, True, False, False, True]
    # Most of them slow: the fast ones are still what the others are held against.
    assert is_slow(turns([12.0, 12.0, 19.0, 19.0])).tolist() == [False] * 2 + [True] * 2


def test_fast_and_slow_turns_of_each_backend_have_a_row():
    page = summary([*turns([12.0, 12.0, 20.0]), *turns([14.0], "torch")])
    rows = [line.split(" | ") for line in page.splitlines()[2:]]
    assert [row[:3] for row in rows] == [
        ["| jax", "fast: 2", "12.0"],
        ["| jax", "slow: 1", "20.0"],
        ["| torch", "fast: 1", "14.0"],
    ]
    assert rows[1][5] == "51 %"


@pytest.mark.slow
def test_a_measurement(tmp_path, capsys, monkeypatch):
    options = f"--backends jax --rounds 1 --seconds 0.1 --out {tmp_path}"
    line = "python -m benchmarks.speed.fisher_over_time"
    assert not run_benchmark(line, options, monkeypatch)
    out = tmp_path / "fisher-over-time.csv"
    with out.open() as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == Turn._fields
    assert rows
    assert (np.array([row[2:] for row in rows], float) > 0).all()
    assert out.with_suffix(".png").stat().st_size > 1000
    assert "| jax | fast: " in capsys.readouterr().out
