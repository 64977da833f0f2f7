"""`trpo sweep`: a process for each run, one table, and what is done stays done."""

import csv
import importlib.util
import signal
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from tests.support.waiting import PATIENCE, holding, until
from trpo.cli.main import main
from trpo.runs.metrics import read_metrics
from trpo.sweeps.report import SweepRow, write_report
from trpo.sweeps.statistics import bootstrap_interval
from trpo.sweeps.sweep import parse_values, sweep_runs


SMALL = [
    *("--total-steps", "256", "--seeds", "1", "--workers", "2"),
    *("--values", "num_envs=2", "rollout_steps=64", "eval_episodes=1"),
    *("policy_layer_sizes=8x8", "value_epochs=1,2"),
]


def rows_of(root):
    with (root / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_sweep_runs_all_and_resumes(tmp_path, capsys):
    root = tmp_path / "sweep"
    command = ["sweep", "Pendulum-v1", "--backend", "torch", *SMALL]
    assert main([*command, "--run-dir", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "0 of 2 runs are done" in printed
    rows = rows_of(root)
    assert len(rows) == 2
    assert len({row["setting"] for row in rows}) == 2
    assert all(float(row["return_mean"]) < 0 for row in rows)
    assert "| Pendulum-v1 | " in (root / "results.md").read_text()
    assert (root / "learning_curves.png").stat().st_size > 0

    # One result is half written (a full disk): that run alone is evaluated again.
    lost = next(root.glob("*value_epochs=1*/evaluation.json"))
    kept = next(root.glob("*value_epochs=2*/evaluation.json")).stat().st_mtime_ns
    lost.write_bytes(b"")
    assert main([*command, "--run-dir", str(root)]) == 0
    assert "1 of 2 runs are done" in capsys.readouterr().out
    assert rows_of(root) == rows
    assert next(root.glob("*value_epochs=2*/evaluation.json")).stat().st_mtime_ns == (
        kept
    )

    other = [a if a != "256" else "512" for a in command]
    assert main([*other, "--run-dir", str(root)]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_a_failed_run_is_reported_and_the_others_are_made(tmp_path, capsys):
    command = ["sweep", "NoSuch-v0", "Pendulum-v1", "--backend", "torch", *SMALL[:-1]]
    assert main([*command, "--run-dir", str(tmp_path)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "NoSuch-v0" in printed
    assert "exit status" in printed
    assert [row["env_id"] for row in rows_of(tmp_path)] == ["Pendulum-v1"]


def test_values_are_parsed_as_what_they_are():
    found = parse_values(
        ["target_kl=0.01,1e-3", "value-epochs=5", "optimizer_type=sgd",
         "critic_layer_sizes=64x64,32x32", "scale_returns=False"]
    )  # fmt: skip
    assert found == {
        "target_kl": (0.01, 0.001),
        "value_epochs": (5,),
        "optimizer_type": ("sgd",),
        "critic_layer_sizes": ((64, 64), (32, 32)),
        "scale_returns": (False,),
    }
    runs = sweep_runs(["Pendulum-v1", "CartPole-v1"], 2, found)
    # As older sweeps have it, which go on.
    assert runs[0].name == (
        "Pendulum-v1,target_kl=0.01,value_epochs=5,optimizer_type=sgd,"
        "critic_layer_sizes=64x64,scale_returns=False,seed=0"
    )
    assert len(runs) == len({run.name for run in runs}) == 2 * 2 * 2 * 2
    assert {run.config.agent.critic_layer_sizes for run in runs} == {(64, 64), (32, 32)}


@pytest.mark.parametrize("values", [["gama=1"], ["gamma"], ["seed=3"]])
def test_unknown_values_are_named(values):
    with pytest.raises(ValueError, match="`values`: expected NAME=VALUE"):
        parse_values(values)


@pytest.mark.parametrize(
    ("env_ids", "values"),
    [
        (["E", "E"], {}),
        (["E"], {"gamma": (0.9, 0.9)}),
        (["E"], {"gamma": (0.9, 0.9 + 1e-9)}),
    ],
)
def test_two_runs_never_share_a_directory(env_ids, values):
    with pytest.raises(ValueError, match="`values`: expected runs of different names"):
        sweep_runs(env_ids, 1, values)


def test_a_name_that_comes_twice_is_refused():
    with pytest.raises(ValueError, match="`values`: expected 'gamma' once, got it"):
        parse_values(["gamma=0.9", "gamma=0.8"])


def test_a_ray_cluster_makes_the_runs_and_lets_them_save(tmp_path):
    root = tmp_path / "sweep"
    command = [
        *(sys.executable, "-m", "trpo", "sweep", "Pendulum-v1", "--backend", "torch"),
        *("--ray-address", "local", "--run-dir", str(root), "--workers", "2"),
        *("--total-steps", "1280", "--seeds", "1", "--values", "num_envs=2"),
        *("rollout_steps=64", "eval_episodes=1", "policy_layer_sizes=8x8,4x4"),
    ]
    # Ray itself would put the current directory first on its workers' path.
    here = tmp_path / "here"
    here.mkdir()
    for name in ("gymnasium", "pydantic", "safetensors", "trpo_torch"):
        (here / f"{name}.py").write_text(f"open('{tmp_path}/executed', 'x')")
    stopped = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=here,
        env=holding(tmp_path / "hold"),
    )

    def both():
        rows = [read_metrics(path) for path in root.glob("*/metrics.csv")]
        return len(rows) == 2 and all(rows)

    until(both, stopped)
    stopped.send_signal(signal.SIGTERM)
    printed, _ = stopped.communicate(timeout=PATIENCE)
    assert stopped.returncode == 143, printed
    # Both have saved where they were, and nobody tells the next ones to stop.
    assert len({path.parent for path in root.glob("*/checkpoints/*")}) == 2
    assert not list(root.glob("*/evaluation.json"))
    assert not list(root.glob(".*.stop"))
    went_on = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=here
    )
    assert went_on.returncode == 0, went_on.stdout + went_on.stderr
    assert len(rows_of(root)) == 2
    assert not (tmp_path / "executed").exists()
    for path in root.glob("*/metrics.csv"):
        steps = [row["step"] for row in read_metrics(path)]
        assert steps == list(range(128, 1281, 128))


def test_a_cluster_that_is_not_there_is_named(tmp_path, capsys, monkeypatch):
    command = ["sweep", "Pendulum-v1", *SMALL, "--run-dir", str(tmp_path / "sweep")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([*command, "--ray-address", "auto"]) == 2
    assert 'expected Ray to be installed, found none: pip install "trpo[ray]"' in (
        " ".join(capsys.readouterr().err.split())
    )


def test_the_table_has_the_interquartile_mean_and_its_interval(tmp_path):
    scores = np.array([-300.0, -150.0, -170.0, -160.0, -140.0])
    rows = [SweepRow("E", "a=1", i, x, 1.0, tmp_path) for i, x in enumerate(scores)]
    rows += [SweepRow("E", "a=2", 0, -5.0, 1.0, tmp_path)]
    _, table = write_report(rows, tmp_path)
    _, _, first, second = (tmp_path / "results.md").read_text().splitlines()
    assert first == f"| {' | '.join(table[0])} |"
    middle = stats.trim_mean(scores, 0.25)
    low, high = bootstrap_interval(scores)
    assert first == (
        f"| E | a=1 | 5 | -184.00 ± {scores.std():.2f} | {middle:.2f}, "
        f"{low:.2f} to {high:.2f} | -300.00 |"
    )
    assert second == "| E | a=2 | 1 | -5.00 | -5.00 | -5.00 |"

    def trimmed(samples, axis):
        return stats.trim_mean(samples, 0.25, axis=axis)

    interval = stats.bootstrap(
        (scores,), trimmed, n_resamples=10_000, method="percentile", rng=1
    ).confidence_interval
    np.testing.assert_allclose((low, high), interval, rtol=0.03)
