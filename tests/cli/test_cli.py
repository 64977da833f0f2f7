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
from trpo.config.presets import find_preset, preset_for
from trpo.data.report import METRIC_NAMES
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
        (["parity", "--quick", "--full"], "expected one of --quick and --full"),
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
