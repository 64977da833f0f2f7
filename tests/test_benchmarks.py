"""The study and the throughput table run, resume, and report what was run."""

import json

import pytest

from benchmarks import training_study
from benchmarks.throughput import Size, time_update
from trpo.metrics import read_metrics


@pytest.fixture
def arguments(tmp_path):
    return training_study.Arguments(
        seeds=(0, 1),
        backends=("torch",),
        total_steps=2048,
        runs=tmp_path / "runs",
        results=tmp_path / "results",
    )


def test_study_runs_skips_what_is_done_and_writes_every_seed(arguments, capsys):
    training_study.main(arguments)
    written = (arguments.results / "Pendulum-v1.md").read_text()
    scores = []
    for seed in arguments.seeds:
        directory = training_study.run_directory(
            arguments.runs, "Pendulum-v1", "torch", seed, 2048
        )
        scores.append(json.loads((directory / "evaluation.json").read_text())["mean"])
        assert len(read_metrics(directory / "metrics.csv")) == 2
    assert scores[0] != scores[1]
    assert f"{scores[0]:.1f}, {scores[1]:.1f}" in written
    assert "| 2,048 | 0, 1 |" in written
    assert "4 / 0 / 0" in written
    curve = (arguments.results / "Pendulum-v1-torch.csv").read_text().splitlines()
    assert curve[0] == "seed,step,return,kl,status"
    assert len(curve) == 5
    assert (arguments.results / "Pendulum-v1.png").stat().st_size > 10_000

    # A finished run is not run again: its evaluation is read, not made.
    marked = directory / "evaluation.json"
    evaluation = json.loads(marked.read_text())
    marked.write_text(json.dumps({**evaluation, "mean": -1.5}))
    training_study.main(arguments)
    assert "-1.5" in (arguments.results / "Pendulum-v1.md").read_text()


def test_both_backends_are_timed_on_the_same_work():
    timings = time_update(Size("tiny", 64, 3, 1, (8,)), repeats=3)
    assert set(timings) == {"torch", "jax"}
    assert timings["torch"].cg_iterations == timings["jax"].cg_iterations > 0
    assert timings["torch"].median > 0
    # The first call of a new shape compiles.
    assert timings["jax"].first > timings["jax"].median > 0
