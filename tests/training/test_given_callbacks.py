"""Callbacks that come with the library: best model, stopping, films, W&B."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.support.callback_runs import small
from trpo.callbacks.builtin import StopAtReturn
from trpo.cli.main import main
from trpo.config.choices import INTERIM_EPISODES
from trpo.rollout.evaluation import EvaluationResult, evaluate
from trpo.runs.directory import Moment, RunDirectory, load_agent
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run
from trpo.training.progress import Progress
from trpo.training.trainer import Trainer


def test_the_best_model_is_the_best_and_loads(tmp_path, capsys):
    run = tmp_path / "run"
    # A radius and a seed that go up and down.
    train_run(small(save_best=True, eval_interval=1, target_kl=0.05, seed=5), run)
    rows = read_metrics(run / "metrics.csv")
    means = [row["evaluation/return_mean"] for row in rows]
    first_best = rows[int(np.argmax(means))]
    # Else the first, the newest, or any that is above the one before would pass.
    assert max(means) > max(means[0], means[-1], means[-3]) > means[2]
    checkpoint = RunDirectory(run / "best").load()[0]
    assert checkpoint.step == first_best["step"]
    assert checkpoint.metadata["evaluation"]["return_mean"] == max(means)
    assert len(list((run / "best" / "checkpoints").iterdir())) == 1
    agent, config = load_agent(run / "best")
    result = evaluate(agent, "CartPole-v1", episodes=INTERIM_EPISODES, seed=config.seed)
    assert result.mean == max(means)
    capsys.readouterr()
    command = ["evaluate", str(run / "best"), "--episodes", str(INTERIM_EPISODES)]
    assert main(command) == 0
    assert f"return {max(means):.2f}" in capsys.readouterr().out


def result_of(mean):
    return EvaluationResult(np.full(5, float(mean)), np.full(5, 1))


def test_the_best_model_after_a_rollback_is_the_one_that_was_saved_last(tmp_path):
    # A run resumed from before the best (a kill) finds a best of a later step there.
    trainer = Trainer(small())
    directory = RunDirectory(tmp_path / "best")
    spec = trainer.spec
    for step, value in ((640, 1.0), (64, 2.0)):
        state = {**trainer.get_state(), "policy.layers.0.bias": np.full(8, value)}
        directory.keep_only(Moment(trainer.config, spec, step, state, {}))
    assert directory.load()[0].step == 64
    trainer.close()


KILLED = """
import os, pathlib, random, signal, sys, threading
from trpo.runs.train import train_run
from trpo.config.run import TrainConfig
from trpo.common.files import Folder

rename, count = Folder.rename, 0
def die(folder, source, target):
    global count
    if "/best/" in str(folder.path):
        count += 1
        if count == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
    rename(folder, source, target)
Folder.rename = die
import json
config = TrainConfig.from_dict(json.loads(sys.argv[1]))
train_run(config, pathlib.Path(sys.argv[2]))
"""


def test_a_kill_while_the_best_is_saved_leaves_the_one_before(tmp_path):
    config = small(save_best=True, eval_interval=1, checkpoint_interval=1)
    straight = tmp_path / "straight"
    train_run(config, straight)
    run = tmp_path / "run"
    # The first save renames once; the third rename is in the second save at the latest.
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(config.to_dict()), str(run), "2"],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    left = RunDirectory(run / "best").load()[0]
    # The row of an update is written once its callbacks have logged.
    means = [r["evaluation/return_mean"] for r in read_metrics(run / "metrics.csv")]
    best = left.metadata["evaluation"]["return_mean"]
    assert best >= max(means, default=best)
    train_run(config, run, resume=True)
    best = [RunDirectory(path / "best").load()[0] for path in (straight, run)]
    assert best[0].step == best[1].step
    for name, array in best[0].arrays.items():
        np.testing.assert_array_equal(array, best[1].arrays[name], err_msg=name)


def test_a_run_stops_at_its_return(tmp_path, capsys):
    run = tmp_path / "run"
    options = (
        "--backend torch --num-envs 2 --rollout-steps 32 --total-steps 384 "
        "--policy-layer-sizes 8 --eval-interval 2 --eval-episodes 2 "
        f"--stop-at-return 1 --run-dir {run}"
    ).split()
    assert main(["train", "CartPole-v1", *options]) == 0
    printed = capsys.readouterr().out
    assert "stopped at step 128: return " in printed
    assert "over 2 episodes" in printed
    assert (run / "evaluation.json").is_file()
    # The configuration has it, so a resumed run stops too: at its next evaluation.
    assert main(["train", "--resume", str(run)]) == 0
    assert "stopped at step 256" in capsys.readouterr().out
    progress = Progress(1, 1, {})
    assert StopAtReturn(3.0).on_evaluation(progress, result_of(3.0)) is not None
    assert StopAtReturn(3.0).on_evaluation(progress, result_of(2.99)) is None


@pytest.mark.parametrize(
    ("blocked", "flag", "words"),
    [
        ("wandb", ["--wandb-project", "p"], 'pip install "trpo[wandb]"'),
        ("moviepy", ["--video-every", "1"], 'pip install "trpo[video]"'),
        ("pygame", ["--video-every", "1"], 'pip install "trpo[video]"'),
        ("", ["--save-best", "--eval-interval", "0"], "--eval-interval"),
        ("", ["--stop-at-return", "nan"], "`stop_at_return`"),
        ("", ["--video-every", "1", "--compiled"], "for compiled training"),
    ],
)
def test_what_is_missing_is_said_before_training(
    tmp_path, monkeypatch, capsys, blocked, flag, words
):
    if blocked:
        for name in [n for n in sys.modules if n.partition(".")[0] == blocked]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, blocked, None)
    env_id = "phys2d/Pendulum-v0" if "--compiled" in flag else "CartPole-v1"
    if blocked == "pygame":
        pytest.importorskip("moviepy")
    run = tmp_path / "run"
    options = ["--eval-interval", "2", *flag, "--run-dir", str(run)]
    assert main(["train", env_id, *options]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not run.exists()


def test_films_of_every_second_evaluation_and_on_resume(tmp_path):
    pytest.importorskip("moviepy")
    pytest.importorskip("pygame")
    run = tmp_path / "run"
    config = small(eval_interval=1, video_every=2, total_steps=3 * 64)
    train_run(config, run)
    # The count goes on: were it to start anew, the next film would be of update 5.
    train_run(small(eval_interval=1, video_every=2), run, resume=True)
    films = sorted(run.glob("videos/step-*/*.mp4"))
    steps = [int(film.parent.name.removeprefix("step-")) for film in films]
    assert steps == [64 * update for update in (2, 4, 6)]
    assert all(film.stat().st_size > 1000 for film in films)


OFFLINE = """
import json, pathlib, sys
from trpo.runs.train import train_run
from trpo.config.run import TrainConfig
config = TrainConfig.from_dict(json.loads(sys.argv[1]))
run = pathlib.Path(sys.argv[2])
train_run(config, run, resume=run.exists())
"""


def test_wandb_offline_has_every_update_in_one_run(tmp_path):
    run = tmp_path / "run"
    for total in (2, 3):
        config = small(total_steps=total * 64, wandb_project="trust")
        subprocess.run(
            [sys.executable, "-c", OFFLINE, json.dumps(config.to_dict()), str(run)],
            check=True,
            env={**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"},
        )
        if total == 2:
            half = RunDirectory(run)
            written = json.loads((run / "config.json").read_text())
            written["total_steps"] = 3 * 64
            (half.path / "config.json").write_text(json.dumps(written))
    files = sorted(run.glob("wandb/start-*/wandb/offline-run-*/*.wandb"))
    state = RunDirectory(run).load()[0].metadata["callbacks"]["WandbWriter"]
    assert [file.stem for file in files] == [f"run-{state['id']}"] * 2
    # A value's own text is in the log of the run, of each update once.
    text = [file.read_bytes() for file in files]
    counts = [t.count(b"policy/agreement") for t in text]
    assert counts[0] >= 2
    assert counts[1] >= 1
