"""Study and ablation run, resume, and report what was run."""

import json
import os
import shutil
import signal
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from benchmarks.learning import ablation
from benchmarks.learning.statistics import difference_interval
from benchmarks.learning.training import __main__ as training_study
from benchmarks.learning.training.rows import read_results, read_rows
from benchmarks.learning.training.runs import STOCHASTIC, RunSpec, command_arguments
from tests.support.short_runs import run_benchmark
from tests.support.waiting import PATIENCE, holding, until
from trpo.config.presets import preset_config
from trpo.runs.metrics import read_metrics
from trpo.sweeps.pool import locked
from trpo.sweeps.statistics import bootstrap_interval, interquartile_mean


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Where the study's command has left its runs and results."""
    place = tmp_path_factory.mktemp("study")
    options = (
        "--envs Pendulum-v1 --seeds 0 1 --backends torch jax --total-steps 4800 "
        f"--runs {place / 'runs'} --out {place / 'results'}"
    )
    line = "python -m benchmarks.learning.training"
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run_benchmark(line, options, monkeypatch) == 0
    return place


@pytest.fixture
def arguments(studied, tmp_path):
    """Of the same study, on a copy of what it has done."""
    shutil.copytree(studied, tmp_path, dirs_exist_ok=True)
    return training_study.Arguments(
        envs=("Pendulum-v1",),
        seeds=(0, 1),
        backends=("torch", "jax"),
        total_steps=4800,
        runs=tmp_path / "runs",
        out=tmp_path / "results",
    )


@pytest.mark.slow
def test_study_runs_reports_and_skips_what_is_done(arguments):
    results = read_results(arguments.out)
    assert set(results) == {("Pendulum-v1", "jax"), ("Pendulum-v1", "torch")}
    scores = []
    for seed, curve in results["Pendulum-v1", "jax"].items():
        assert [row.step for row in curve] == [1600, 3200, 4800]
        assert [row.episodes for row in curve] == [5, 5, 20]
        assert [sum(row.statuses) for row in curve] == [1, 2, 3]
        assert curve[0].scores[2] is None
        directory = RunSpec(
            "Pendulum-v1", "jax", seed, (("total_steps", 4800),)
        ).directory(arguments.runs)
        final = json.loads((directory / "evaluation.json").read_text())
        assert curve[-1].scores[0] == pytest.approx(final["mean"], abs=0.01)
        scores.append(final["mean"])
    assert scores[0] != scores[1]
    text = (arguments.out / "README.md").read_text()
    assert f"{np.mean(scores):,.1f} ± {np.std(scores):,.1f}" in text
    assert "PyTorch against JAX" in text
    assert "--backends jax --seeds 0 1 --total-steps 4800" in text
    assert (arguments.out / "learning_curves.png").stat().st_size > 10_000

    # A finished run is not run again: its evaluation is read, not made.
    marked = directory / "evaluation.json"
    marked.write_text(json.dumps({**final, "mean": -1.5}))
    assert training_study.main(arguments) == 0
    rows = read_rows(arguments.out / "Pendulum-v1-jax.csv")
    assert rows[-1].scores[0] == -1.5
    # A run of another preset is refused, not taken for this one's.
    config = json.loads((directory / "config.json").read_text())
    config["agent"]["gamma"] = 0.5
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"a run with gamma = 0\.95, got 0\.5"):
        training_study.main(arguments)
    # Nor are curves of another length put in place of these.
    arguments.total_steps = 1600
    with pytest.raises(ValueError, match="to hold runs of 1,600 steps, got 4,800"):
        training_study.main(arguments)


@pytest.mark.slow
def test_a_stopped_study_goes_on_to_the_same_result(studied, tmp_path):
    command = [sys.executable, "-m", "benchmarks.learning.training"]
    command += ["--envs", "Pendulum-v1", "--seeds", "0", "--backends", "torch"]
    command += ["--total-steps", "4800", "--workers", "1"]
    command += ["--runs", str(tmp_path), "--out", str(tmp_path / "results")]
    process = subprocess.Popen(command, env=holding(tmp_path / "hold"))
    metrics = tmp_path / "Pendulum-v1-torch-4800-s0" / "metrics.csv"
    until(lambda: read_metrics(metrics), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) == 143
    assert not (metrics.parent / STOCHASTIC).exists()
    subprocess.run(command, check=True, timeout=PATIENCE)
    stopped, straight = (
        read_rows(place / "results" / "Pendulum-v1-torch.csv")
        for place in (tmp_path, studied)
    )
    assert [row._replace(training_seconds=0) for row in stopped] == [
        row._replace(training_seconds=0) for row in straight if row.seed == 0
    ]


def test_a_second_study_in_the_same_place_is_refused(tmp_path):
    refused = pytest.raises(ValueError, match=f"in use by process {os.getpid()} on ")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.mark.slow
def test_a_failed_run_is_reported_and_the_others_go_on(arguments, capsys):
    broken = RunSpec("Pendulum-v1", "torch", 2, (("total_steps", 4800),))
    checkpoint = broken.directory(arguments.runs) / "checkpoints" / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    shutil.rmtree(arguments.out)
    arguments.backends, arguments.seeds = ("torch",), (2, 1)
    assert training_study.main(arguments) == 1
    assert "exit status 2" in capsys.readouterr().out
    assert list(read_results(arguments.out)["Pendulum-v1", "torch"]) == [1]


def test_command_arguments_make_the_configuration():
    spec = RunSpec(
        "Pendulum-v1",
        "torch",
        7,
        (("policy_layer_sizes", (8, 9)), ("scale_returns", False), ("gamma", 0.5)),
    )
    arguments = command_arguments(spec.config)
    assert arguments[0] == "Pendulum-v1"
    joined = " ".join(arguments)
    for part in ("--seed 7", "--policy-layer-sizes 8 9", "--no-scale-returns"):
        assert part in joined
    assert "--gamma 0.5" in joined
    assert "value-lr" not in joined  # the preset's own


@pytest.mark.slow
def test_ablation_compares_each_value_with_the_preset(tmp_path):
    arguments = ablation.Arguments(
        env="Pendulum-v1",
        vary=(
            "target_kl=0.01",
            "policy_layer_sizes=8x8&gamma=0.9",
            "truncation=terminal",
        ),
        seeds=(100,),
        backend="torch",
        total_steps=1600,
        runs=tmp_path / "runs",
        out=tmp_path / "results",
    )
    (spec,) = ablation.planned(arguments)["truncation=terminal"]
    own = preset_config("Pendulum-v1", backend="torch", seed=100, total_steps=1600)
    changed = {k for k, v in spec.config.to_dict().items() if v != own.to_dict()[k]}
    assert changed == {
        "env_id",
        "eval_interval",
        "checkpoint_interval",
        "keep_checkpoints",
    }
    assert ablation.main(arguments) == 0
    names = "target_kl-policy_layer_sizes-gamma-truncation"
    stem = tmp_path / "results" / f"Pendulum-v1-{names}"
    text = stem.with_suffix(".md").read_text()
    # 0.01 is the preset's own value: one run, under the preset's name.
    assert "| target_kl=" not in text
    assert "| preset (target_kl=0.01, policy_layer_sizes=(64, 64), gamma=0.95" in text
    assert "truncation=bootstrapped) | 1,600 |" in text
    assert "| policy_layer_sizes=8x8&gamma=0.9 |" in text
    assert "| truncation=terminal | 1,600 |" in text
    assert len(os.listdir(tmp_path / "runs")) == 3 * 2 + 1  # with logs and the lock
    assert stem.with_suffix(".png").stat().st_size > 10_000

    # Its episodes end at their time limit.
    env = gymnasium.make(spec.env_id)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(200)]
    assert ends == [(False, False)] * 199 + [(True, False)]


def test_bootstrapped_truncation_beside_another_setting_changes_that_alone():
    choice = "truncation=bootstrapped&gamma=0.9"
    arguments = ablation.Arguments(env="Pendulum-v1", vary=(choice,), seeds=(100,))
    (spec,) = ablation.planned(arguments)[choice]
    assert spec.env_id == "Pendulum-v1"
    assert spec.overrides == (("gamma", 0.9),)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("learning=1", "expected one of"),
        ("target_kl=fast", "a value of target_kl, a float"),
        ("target_kl=-1", "`target_kl`"),
        ("truncation=cut", "truncation=bootstrapped or terminal, got 'cut'"),
    ],
)
def test_an_ablation_of_nonsense_is_refused(choice, words):
    arguments = ablation.Arguments(env="Pendulum-v1", vary=(choice,))
    with pytest.raises(ValueError, match=words):
        ablation.planned(arguments)


def test_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert interquartile_mean(np.array([100.0, 1.0, 2.0, 3.0, -50.0])) == 2.0
    assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 3.0
    columns = np.array([[1.0, 10.0], [3.0, 30.0]])
    np.testing.assert_array_equal(interquartile_mean(columns, axis=0), [2.0, 20.0])


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    hits = differences = 0
    for trial in range(100):
        left, right = generator.standard_normal((2, 20))
        low, high = bootstrap_interval(left, seed=trial)
        hits += low <= 0.0 <= high
        interval = difference_interval(left + 1.0, right, seed=trial)
        differences += interval.low <= 1.0 <= interval.high
    # Percentile intervals of 20 samples are a little too narrow.
    assert 85 <= hits <= 99
    assert 85 <= differences <= 99
