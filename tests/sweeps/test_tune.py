"""`trpo tune`: Optuna asks, runs on disk are the truth, no study file is read."""

import importlib.util
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from tests.support.waiting import holding, until
from trpo.cli.main import main
from trpo.common.terminal import Terminal
from trpo.config.presets import command_arguments, preset_config
from trpo.config.run import TrainConfig
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import read_metrics
from trpo.sweeps.pool import FAILED, locked, run_each
from trpo.sweeps.tune import PRUNED, STUDY, Between, Search, default_space


EXAMPLE = Path(__file__).parents[2] / "examples" / "tune_pendulum"
ENV, STEPS = "Pendulum-v1", 1000
# A choice and an end of more digits than a number that is searched for.
SPACE = {"value_lr": Between(1.2345e-4, 1e-1), "gamma": (0.9, 0.95, 0.9995)}
OVERRIDES = {"total_steps": STEPS, "num_envs": 1, "rollout_steps": 100}


def value_of(config):
    return -((math.log10(config.agent.value_lr) + 2) ** 2) - config.agent.gamma


def train(command, log, stop, value=value_of, on_row=lambda config, step: None):
    """Stands for a run's process, and writes what it would: see `Launch`."""
    path, config = Path(command[-2]), TrainConfig.from_dict(json.loads(command[-1]))
    directory = RunDirectory(path)
    directory.write_config(config)
    done = [row["step"] for row in read_metrics(path / "metrics.csv")]
    columns = ("step", "update", "evaluation/return_mean")
    writer = directory.metrics_writer(columns, max(done, default=0))
    samples = config.num_envs * config.rollout_steps
    for update in range(len(done) + 1, config.num_updates + 1):
        row = {"update": update}
        if update % config.eval_interval == 0:
            row["evaluation/return_mean"] = value(config)
        writer.write(update * samples, row)
        on_row(config, update * samples)
        if stop.is_set():
            writer.close()
            return
    writer.close()
    result = {"mean": value(config), "std": 0.0, "episodes": 1}
    directory.write("evaluation.json", json.dumps(result).encode())


def searched(root, launch=train, workers=1, runs=8, space=SPACE, **options):
    """Run a search; its exit status, itself and names of its run directories."""
    options = {"seeds": 1, "overrides": OVERRIDES, "budget": runs * STEPS} | options
    terminal = Terminal()
    search = Search(ENV, root, space, launch=launch, terminal=terminal, **options)
    steps = search.allowed_steps
    status = run_each(
        search.source(), search.trials, steps, root, workers, terminal, search.finished
    )
    return status, search, sorted(path.name for path in root.glob("0*"))


def in_file(root):
    """The trials in the study's file, as Optuna reads them."""
    url = f"sqlite:///{root / STUDY}"
    storage = optuna.storages.RDBStorage(url)
    trials = optuna.load_study(study_name=ENV, storage=storage).trials
    storage.engine.dispose()
    return [(trial.state.name, trial.params, trial.value) for trial in trials]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    root = tmp_path_factory.mktemp("straight")
    return root, *searched(root, runs=13)


def test_a_search_begins_with_the_preset_and_finds_better(straight):
    root, status, search, names = straight
    assert status == 0
    assert 12 * STEPS < sum(t.steps_done(root) for t in search.trials) <= 13 * STEPS
    assert names[0].startswith("0000,value_lr=0.001,gamma=0.95,seed=0")
    assert search.completed[0][1] > value_of(preset_config(ENV)) + 0.5
    states, params, values = zip(*in_file(root), strict=True)
    assert {*states} == {"COMPLETE", "PRUNED"}
    assert max(values) == search.completed[0][1]
    for name, of_trial in zip(names, params, strict=True):
        config = RunDirectory(root / name).shown_config()
        assert config.agent.value_lr == of_trial["value_lr"]
        assert float(f"{config.agent.value_lr:.3g}") == config.agent.value_lr
    assert 0.9995 in [of_trial["gamma"] for of_trial in params]


def test_a_search_that_was_stopped_goes_on_as_it_would_have(straight, tmp_path, capsys):
    def stopping(command, log, stop):
        def on_row(config, step):
            if "0011" in command[-2] and step == STEPS // 2:
                os.kill(os.getpid(), signal.SIGTERM)

        train(command, log, stop, on_row=on_row)

    assert searched(tmp_path, stopping, runs=13)[0] == 128 + signal.SIGTERM
    (left,) = tmp_path.glob("0011*")
    assert not (left / "evaluation.json").exists()
    assert "the same command goes on" in capsys.readouterr().out
    (tmp_path / STUDY).unlink()
    status, _, names = searched(tmp_path, runs=13)
    assert status == 0
    assert names == straight[-1]
    steps = [row["step"] for row in read_metrics(left / "metrics.csv")]
    assert steps == list(range(100, STEPS + 1, 100))
    assert sorted(map(str, in_file(tmp_path))) == sorted(map(str, in_file(straight[0])))
    printed = capsys.readouterr().out
    assert "11 trials are done already, 1 go on" in printed
    assert "trial 11: return -" in printed
    assert "trial 10" not in printed


def test_a_bad_trial_is_pruned_and_its_steps_are_for_others(tmp_path, capsys):
    def falling(command, log, stop):
        train(command, log, stop, lambda config: -float(Path(command[-2]).name[:4]))

    status, search, names = searched(tmp_path, falling, runs=8)
    assert status == 0
    pruned = [name for name in names if (tmp_path / name / PRUNED).exists()]
    # The first five are what others are compared with.
    assert names[5:] == pruned
    assert len(names) > 8
    assert sum(trial.steps_done(tmp_path) for trial in search.trials) <= 8 * STEPS
    printed = capsys.readouterr().out
    assert f"trial 5: pruned after 300 of {STEPS:,} steps" in printed
    states = [state for state, *_ in in_file(tmp_path)]
    assert states == ["COMPLETE"] * 5 + ["PRUNED"] * len(pruned)
    (tmp_path / STUDY).unlink()
    _, again, _ = searched(tmp_path, falling, runs=8)
    assert [state for state, *_ in in_file(tmp_path)] == states
    assert again.completed[0] == (again.trials[0], 0.0)


def test_a_failed_trial_is_reported_and_made_by_the_next_command(tmp_path, capsys):
    def failing(command, log, stop):
        if "0001" in command[-2]:
            RunDirectory(Path(command[-2])).write_config(
                TrainConfig.from_dict(json.loads(command[-1]))
            )
            raise RuntimeError("it broke")
        train(command, log, stop)

    status, _, names = searched(tmp_path, failing, workers=2, runs=4)
    assert status == FAILED
    assert "it broke" in capsys.readouterr().out
    assert sorted(state for state, *_ in in_file(tmp_path)) == ["COMPLETE"] * 3 + [
        "FAIL"
    ]
    status, _, again = searched(tmp_path, runs=4)
    assert (status, again) == (0, names)
    assert {state for state, *_ in in_file(tmp_path)} == {"COMPLETE"}


def test_trials_that_all_fail_end_the_search(tmp_path):
    def failing(command, log, stop):
        raise RuntimeError("no such environment")

    status, search, _ = searched(tmp_path, failing, runs=50)
    assert status == FAILED
    assert len(search.trials) == 3


def test_seeds_of_a_trial_are_compared_by_their_mean(tmp_path):
    def by_seed(config):
        return value_of(config) + config.seed

    def launch(command, log, stop):
        train(command, log, stop, by_seed)

    _, search, names = searched(tmp_path, launch, seeds=2, budget=3 * 2 * STEPS)
    assert [name[-6:] for name in names] == ["seed=0", "seed=1"] * 3
    first = search.trials[0]
    assert first.value(tmp_path) == value_of(first.runs[0].config) + 0.5


def _schema(path):
    """A study's file that acts when it is written to."""
    with sqlite3.connect(path) as connection:
        connection.execute("create table studies (study_id integer)")
        connection.execute("create table victim (x)")
        connection.execute(
            "create trigger t after insert on studies begin insert into victim "
            "values (1); end"
        )


STUDIES = {
    "none": lambda path, victim: None,
    "a link": lambda path, victim: path.symlink_to(victim),
    "a link to nothing": lambda path, victim: path.symlink_to(victim.with_name("no")),
    "a pipe": lambda path, victim: os.mkfifo(path),
    "garbage": lambda path, victim: path.write_bytes(b"\x80\x04" * 999),
    "a database": lambda path, victim: _schema(path),
    "its journal": lambda path, victim: path.with_name(f"{STUDY}-journal").write_bytes(
        b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0\0\0\1" * 99
    ),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    root = tmp_path_factory.mktemp("search")
    searched(root, runs=4)
    return root


@pytest.mark.parametrize("kind", STUDIES)
def test_the_study_s_file_is_made_anew_whatever_has_its_name(ended, tmp_path, kind):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    before = in_file(ended)
    (ended / STUDY).unlink()
    STUDIES[kind](ended / STUDY, victim)
    assert searched(ended, runs=4)[0] == 0
    assert victim.read_bytes() == b"precious"
    assert (ended / STUDY).is_file()
    assert not (ended / STUDY).is_symlink()
    assert in_file(ended) == before


def test_a_directory_that_is_in_use_or_in_the_way_is_named(ended, capsys):
    with locked(ended), pytest.raises(ValueError, match="in use by process"):
        searched(ended)
    before = (ended / STUDY).read_bytes()
    (ended / STUDY).unlink()
    (ended / STUDY).mkdir()
    with pytest.raises(OSError, match=STUDY):
        searched(ended)
    (ended / STUDY).rmdir()
    (ended / STUDY).write_bytes(before)


@pytest.mark.parametrize(
    "options",
    [
        {"space": {"value_lr": Between(1e-4, 1e-1)}},
        {"space": SPACE | {"gamma": (0.5, 0.6)}},
        {"space": SPACE | {"value_lr": Between(1e-9, 1e-8)}},
        {"overrides": OVERRIDES | {"total_steps": 500}, "budget": 9 * STEPS},
    ],
)
def test_trials_of_another_search_are_refused(ended, options):
    before = sorted(ended.rglob("*"))
    with pytest.raises(ValueError, match=f"`run_dir`: expected {ended}/0000"):
        searched(ended, **options)
    assert sorted(ended.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": STEPS - 1}, "`budget`: expected an integer of at least 1000"),
        ({"seeds": 0}, "`seeds`: expected"),
        ({"space": {"total_steps": (500, 1000)}}, "`values`: expected one total_steps"),
        ({"overrides": OVERRIDES | {"eval_episodes": 0}}, "`eval_episodes`: expected"),
        ({"space": {"gamma": (0.9, 1.5)}}, "`gamma`: expected"),
    ],
)
def test_what_can_not_be_searched_is_named_before_it_begins(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        searched(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "HalfCheetah-v5", "Hopper-v5", "E"])
def test_the_search_s_own_space_has_the_preset(env_id):
    space, config = default_space(env_id), preset_config(env_id)
    options = {"seeds": 1, "budget": None, "overrides": {}, "launch": train}
    search = Search(env_id, Path(), space, terminal=Terminal(), **options)
    own = search._preset_params()
    assert set(own) == set(space)
    assert preset_config(env_id, **{n: v for n, v in own.items() if "layer" not in n})
    assert search.allowed_steps == 50 * config.total_steps


def test_optuna_that_is_missing_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["tune", ENV, "--run-dir", str(tmp_path)]) == 2
    assert 'expected Optuna to be installed, found none: pip install "trpo[tune]"' in (
        " ".join(capsys.readouterr().err.split())
    )


def test_a_search_that_was_killed_goes_on(tmp_path, capsys):
    root = tmp_path / "search"
    arguments = [
        *("tune", ENV, "--backend", "torch", "--total-steps", "640", "--workers", "1"),
        *("--budget", "640", "--run-dir", str(root), "--values", "num_envs=2"),
        *("rollout_steps=64", "eval_episodes=1", "policy_layer_sizes=8x8,4x4"),
        *("critic_layer_sizes=8x8", "value_epochs=1", "cg_iters=2"),
    ]
    killed = subprocess.Popen(
        [sys.executable, "-m", "trpo", *arguments],
        stdout=subprocess.DEVNULL,
        env=holding(tmp_path / "hold"),
        start_new_session=True,
    )

    def begun():
        return [path for path in root.glob("*/metrics.csv") if read_metrics(path)]

    (path,) = until(begun, killed)
    # The search, and its run.
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    (root / STUDY).unlink()
    (root / STUDY).symlink_to(tmp_path / "nothing")
    assert main(arguments) == 0
    assert not (tmp_path / "nothing").exists()
    assert len(in_file(root)) == 1
    assert [row["step"] for row in read_metrics(path)] == [128, 256, 384, 512, 640]
    # What it has found can be trained with.
    best = json.loads((root / "best.json").read_text())
    config = preset_config(best["env_id"], **best["settings"])
    printed = capsys.readouterr().out
    assert "  train:    trpo train Pendulum-v1 --backend torch" in printed
    assert f"--num-envs {config.num_envs} " in printed
    assert f"  confirm:  trpo sweep {ENV} --backend torch --seeds 5 --values" in printed
    for name in ("optimization_history", "intermediate_values", "slice"):
        assert (root / f"{name}.png").stat().st_size > 5000
    assert len((root / "results.csv").read_text().splitlines()) == 2


def test_the_example_s_settings_are_those_of_its_command():
    best = json.loads((EXAMPLE / "best.json").read_text())
    config = preset_config(best["env_id"], **best["settings"])
    command = " ".join(["trpo train", *command_arguments(config)])
    assert command in (EXAMPLE / "README.md").read_text()
