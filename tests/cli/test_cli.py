"""The command line, in both backends, and what it says to mistakes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
import trpo
from trpo.cli import spaces_table as comparison
from trpo.cli.main import COMMANDS, main
from trpo.config import presets
from trpo.config.presets import find_preset, preset_config, preset_for
from trpo.data.report import METRIC_NAMES
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import read_metrics


BACKENDS = ("torch", "jax")


@pytest.mark.parametrize("backend", BACKENDS)
def test_command_line_trains_evaluates_and_resumes(tmp_path, capsys, backend):
    run = tmp_path / "run"
    options = (
        "--num-envs 2 --rollout-steps 64 --total-steps 384 --eval-episodes 2 "
        "--eval-interval 2 --checkpoint-interval 2 --policy-layer-sizes 16 "
        f"--backend {backend} --run-dir {run}"
    ).split()
    assert main(["train", "Pendulum-v1", *options]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"return -?[\d.]+ ± [\d.]+ over 2 episodes", printed)
    assert "trpo evaluate" in printed
    for name in ("config.json", "metrics.csv", "learning_curve.png", "evaluation.json"):
        assert (run / name).stat().st_size > 0
    assert len(list((run / "tensorboard").iterdir())) == 1
    rows = read_metrics(run / "metrics.csv")
    assert [row["step"] for row in rows] == [128, 256, 384]
    assert all(name in rows[0] for name in METRIC_NAMES)
    assert "evaluation/return_mean" in rows[1]
    assert "evaluation/return_mean" not in rows[0]

    assert main(["train", "Pendulum-v1", *options]) == 2
    assert "which exists" in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--total-steps", "512"]) == 0
    rows = read_metrics(run / "metrics.csv")
    assert [row["step"] for row in rows] == [128, 256, 384, 512]
    capsys.readouterr()

    other = BACKENDS[1 - BACKENDS.index(backend)]
    scores = []
    for name in BACKENDS:
        arguments = ["evaluate", str(run), "--episodes", "3", "--json"]
        assert main([*arguments, "--backend", name]) == 0
        scores.append(json.loads(capsys.readouterr().out)["returns"])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)
    assert main(["evaluate", str(run), "--episodes", "3", "--backend", other]) == 0
    last_line = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(r"return -?[\d.]+ ± [\d.]+ over 3 episodes", last_line)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], "expected one of train"),
        (["parity", "--quick", "--full"], "expected one of --quick, --full"),
        (["parity", "--devices", "abacus"], "abacus"),
        (["train", "Pendulm-v1"], "Pendulum-v1"),
        (["train", "TrpoTest/Picture-v0"], "observation_space"),
        (["train", "Pendulum-v1", "--device", "nowhere"], "`device`"),
        (["evaluate", "no-such-run"], "config.json"),
        (["train", "--resume", "no-such-run"], "config.json"),
        (["train", "Pendulum-v1", "--num-envs", "0"], "num_envs"),
        (["train", "Pendulum-v1", "--target-kl", "-1"], "target_kl"),
        (["train", "Pendulum-v1", "--gamma", "1.5"], "gamma"),
        (["train", "Pendulum-v1", "--optimizer-type", "rmsprop"], "--optimizer-type"),
        (["train", "Pendulum-v1", "--policy-layer-sizes"], "policy_layer_sizes"),
    ],
)
def test_a_users_mistake_is_one_clear_message(
    tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    message = " ".join((captured.out + captured.err).split())
    assert words in message
    assert "Traceback" not in message
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_a_missing_framework_names_its_pip_command(tmp_path):
    script = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError('no torch', name='torch')\n"
        "sys.meta_path.insert(0, Block())\n"
        "from trpo.cli.main import main\n"
        "sys.exit(main(['train', 'Pendulum-v1', '--backend', 'torch', "
        f"'--run-dir', {str(tmp_path / 'run')!r}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 2
    assert 'pip install "trpo[torch]"' in done.stderr
    assert not (tmp_path / "run").exists()


def test_spaces_are_listed_as_on_their_page(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["spaces"]) == 0
    printed = capsys.readouterr().out
    for name, *_ in comparison.ROWS:
        assert name in printed
    page = Path(__file__).parents[2] / "docs" / "spaces.md"
    assert comparison.markdown() in page.read_text()
    assert main(["spaces", "more"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian", "Pendulum-v1"], "Did you mean 'train'?"),
        (["Evaluate", "runs/a"], "Did you mean 'evaluate'?"),
        (["presets", "Hoper"], "Did you mean 'hopper'?"),
        (["presets", "walker2D"], "Did you mean 'walker2d'?"),
        (["train", "Pendulum-v1", "--preset", "HalfCheetah"], "mean 'halfcheetah'?"),
        (["train", "Pendulum-v1", "--seeds", "3"], "`trpo sweep`, `trpo tune` have"),
        (["train", "Pendulum-v1", "--episodes", "3"], "`trpo evaluate` has --episodes"),
    ],
)
def test_what_was_meant_is_guessed(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_the_version_and_the_help_of_commands_without_options(capsys):
    assert main(["--version"]) == 0
    assert trpo.__version__ in capsys.readouterr().out
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert f"usage: trpo {name}" in capsys.readouterr().out


def test_a_preset_may_be_named_by_its_environment():
    assert find_preset("HalfCheetah-v5") is preset_for("HalfCheetah-v5")


def test_a_run_that_never_learned_leaves_nothing_and_says_one_thing(tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["train", "CartPole-v1", "--cost-limit", "20", "--backend", "torch"]
    assert main([*arguments, "--run-dir", str(run)]) == 2
    printed = capsys.readouterr()
    assert not run.exists()
    assert "stopped" not in printed.out + printed.err
    assert "expected the cost of each step" in " ".join(printed.err.split())


def test_an_id_without_a_version_is_the_newest_s(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = "--num-envs 2 --rollout-steps 8 --total-steps 16 --eval-episodes 0"
    command = ["train", "Pendulum", "--backend", "torch", *options.split()]
    assert main(command) == 0
    assert capsys.readouterr().err == "Pendulum: the newest version is Pendulum-v1\n"
    (run,) = (tmp_path / "runs").iterdir()
    config = RunDirectory(run).shown_config()
    assert (config.env_id, config.agent.gamma) == ("Pendulum-v1", 0.95)
    assert preset_config("Pendulum") == preset_config("Pendulum-v1")
    # The newest is the largest number, not the last in order.
    made = {f"TrpoTest/Many-v{n}": None for n in (2, 10, 9)}
    monkeypatch.setattr(presets.gymnasium, "registry", made)
    assert presets.versioned("TrpoTest/Many") == "TrpoTest/Many-v10"
    assert presets.versioned("a.b:TrpoTest/Many") == "a.b:TrpoTest/Many-v10"
    assert presets.versioned("TrpoTest/Many-v2") == "TrpoTest/Many-v2"
    assert presets.versioned("TrpoTest/Man.") == "TrpoTest/Man."


@pytest.mark.parametrize("command", ["train", "sweep", "plot"])
@pytest.mark.parametrize("equals", [False, True])
def test_a_path_that_the_system_refuses_is_named_by_its_option(
    tmp_path, capsys, command, equals
):
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.csv").write_text("step,update\n1,1\n")
    RunDirectory(run).write_config(preset_config("CartPole-v1"))
    option, what = "--run-dir", "CartPole-v1"
    if command == "plot":
        option, what = "--out", str(run)
    where = "/proc/there/is/none"
    typed = [f"{option}={where}"] if equals else [option, where]
    assert main([command, what, *typed]) == 2
    said = capsys.readouterr().err
    assert f"`{option}`: expected a path that can be used, got {where} (No such" in said


def test_a_directory_of_many_runs_names_them(tmp_path, capsys):
    many = tmp_path / "many"
    for name in [f"seed={i}" for i in range(7)] + ["best"]:
        (many / name).mkdir(parents=True)
        (many / name / "config.json").write_text("{}")
    # That of a compiled run has a configuration itself, and no checkpoint.
    for content in (None, preset_config("Pendulum-v1").to_dict()):
        if content is not None:
            RunDirectory(many).write_config(preset_config("Pendulum-v1"))
        assert main(["evaluate", str(many)]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "which holds 7: seed=0, seed=1, seed=2, seed=3, seed=4, …" in said
        assert f"Name one, as in {many}/seed=0" in said
