"""What a run is resumed to, what it says, and a new run from another's weights."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.support.callback_runs import small
from trpo.callbacks.base import Callback
from trpo.cli.main import main
from trpo.runs.directory import RunDirectory, RunDirectoryError
from trpo.runs.train import train_run
from trpo.training.state import agent_state


def contents(path):
    return {
        file.relative_to(path): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 384 steps that has ended, and its configuration."""
    path = tmp_path_factory.mktemp("finished") / "run"
    config = small(eval_episodes=1)
    train_run(config, path)
    return path, config


@pytest.mark.parametrize("options", [[], ["384"], ["128"]])
def test_a_finished_run_has_nothing_to_go_on_with(finished, capsys, options):
    path, _ = finished
    before = contents(path)
    more = [word for option in options for word in ("--total-steps", option)]
    assert main(["train", "--resume", str(path), *more]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "already finished at 384: pass more, as in trpo train --resume" in said.err
    assert contents(path) == before


def test_a_run_that_was_not_scored_is_and_a_longer_one_has_no_old_score(
    tmp_path, finished
):
    _, config = finished
    path = tmp_path / "run"
    train_run(config, path)
    (path / "evaluation.json").unlink()
    assert train_run(config, path, resume=True) is not None
    with pytest.raises(RunDirectoryError, match="already finished at 384"):
        train_run(config, path, resume=True)
    # Ended after its training, before it was scored again.
    longer = dataclasses.replace(config, total_steps=512)

    def end(progress):
        assert not (path / "evaluation.json").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(longer, path, resume=True, callbacks=[end])
    assert train_run(longer, path, resume=True) is not None
    # A shorter budget than was made is refused also of one that was not scored.
    (path / "evaluation.json").unlink()
    with pytest.raises(RunDirectoryError, match="already finished at 512"):
        train_run(config, path, resume=True)


def test_rows_that_were_written_keep_their_bytes(tmp_path):
    path, config = tmp_path / "run", small(eval_interval=0)
    train_run(config, path)
    before = (path / "metrics.csv").read_bytes()
    train_run(dataclasses.replace(config, total_steps=512), path, resume=True)
    after = (path / "metrics.csv").read_bytes()
    assert after.startswith(before)
    assert len(after.splitlines()) == len(before.splitlines()) + 2


def test_resume_says_what_it_takes(finished, capsys):
    path, _ = finished
    for wrong in ("--target-kl", "--run-dir", "--seed"):
        assert main(["train", "--resume", str(path), wrong, "0.02"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"`{wrong}`: expected an option of `trpo train --resume`" in said
        assert "--resume takes --total-steps" in said
        assert "trpo train --from RUN" in said


class Mine(Callback):
    """A callback of one's own."""


def mine(progress):
    """A function of one's own."""


def test_callbacks_that_are_not_given_again_are_named(tmp_path, capsys):
    path, config = tmp_path / "run", small(total_steps=128)
    train_run(config, path, callbacks=[Mine(), mine])
    longer = dataclasses.replace(config, total_steps=256)
    capsys.readouterr()
    train_run(longer, path, resume=True, callbacks=[mine])
    said = " ".join(capsys.readouterr().out.split())
    assert "goes on without the callback 'Mine'" in said
    assert "without the callback 'mine'" not in said


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_new_run_from_the_weights_of_another(tmp_path, finished, backend, capsys):
    path, config = finished
    run = tmp_path / "run"
    command = [
        *("train", "CartPole-v1", "--from", str(path), "--target-kl", "0.02"),
        *("--total-steps", "128", "--backend", backend, "--run-dir", str(run)),
    ]
    before = agent_state(RunDirectory(path).load()[0].arrays)
    begun = []

    def note(self, *arguments):
        begun.append(self.get_state())
        return original(self, *arguments)

    from trpo.training.trainer import Trainer

    original = Trainer.advance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "advance", note)
        assert main(command) == 0
    made = RunDirectory(run).shown_config()
    assert made.agent.target_kl == 0.02
    assert made.rollout_steps == config.rollout_steps
    for name, array in before.items():
        same = not name.startswith("random.") and "optimizer." not in name
        if same:
            np.testing.assert_array_equal(begun[0][name], array, err_msg=name)
    assert not any(begun[0]["training.update"].ravel())
    assert RunDirectory(run).load()[0].step == 128
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "--total-steps", "256"]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--policy-layer-sizes", "8", "8"], "`from`: expected a run whose networks"),
        (["--normalize-observations"], "`from`: expected a run whose networks"),
        (["--preset", "pendulum"], "expected one of --preset and --from"),
        (["--compiled"], "expected --from without --compiled"),
    ],
)
def test_a_run_that_can_t_begin_so_leaves_nothing(
    tmp_path, finished, options, said, capsys
):
    path, run = finished[0], tmp_path / "run"
    command = ["train", "CartPole-v1", "--from", str(path), "--run-dir", str(run)]
    assert main([*command, *options]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not run.exists()


def test_a_run_that_was_ended_before_it_learned_is_in_nobody_s_way(tmp_path):
    path, config = tmp_path / "run", small(total_steps=128)
    directory = RunDirectory(path)
    with directory.held_for(False):
        directory.write_config(config)
    train_run(config, path)
    with pytest.raises(RunDirectoryError, match="which exists"):
        train_run(config, path)
    # A file of the user's own, of a name that a run has too.
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match="which exists"):
        train_run(config, mine)


def test_a_checkpoint_of_an_earlier_step_is_scored(tmp_path, capsys):
    path = tmp_path / "run"
    train_run(small(checkpoint_interval=1, keep_checkpoints=3), path)
    command = ["evaluate", str(path), "--episodes", "1", "--json", "--checkpoint"]
    scores = []
    capsys.readouterr()
    for step in ("256", "384"):
        assert main([*command, step]) == 0
        scores.append(json.loads(capsys.readouterr().out)["returns"])
    # Of what was the newest then.
    shorter = tmp_path / "shorter"
    train_run(small(total_steps=256), shorter)
    capsys.readouterr()
    assert main(["evaluate", str(shorter), "--episodes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == scores[0]
    assert main([*command, "300"]) == 2
    said = capsys.readouterr().err
    assert "no valid checkpoint of step 300. There are those of 384, 320, 256." in said


def test_episodes_are_shown_in_a_window(finished, capsys, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    frames, update = [], pygame.display.flip
    monkeypatch.setattr(pygame.display, "flip", lambda: [frames.append(1), update()])
    capsys.readouterr()
    command = ["evaluate", str(finished[0]), "--episodes", "2", "--json"]
    results = []
    for more in ([], ["--render"]):
        assert main([*command, *more]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0] == results[1]
    assert len(frames) >= sum(results[1]["lengths"])


def test_evaluations_in_training_by_steps_and_of_so_many_episodes(tmp_path):
    seen = []

    class Noting(Callback):
        def on_evaluation(self, progress, result):
            seen.append((progress.step, len(result.returns)))

    # Of updates of 64 steps, whole ones.
    config = small(eval_interval_steps=150, eval_interval_episodes=2)
    assert config.eval_interval == 3
    train_run(config, tmp_path / "run", callbacks=[Noting()])
    assert seen == [(192, 2), (384, 2)]
    longer = dataclasses.replace(config, rollout_steps=128)
    assert longer.eval_interval == 1


def test_a_run_begins_with_the_settings_of_a_file(tmp_path, finished, capsys):
    path, config = finished
    for name, where in (("file", path / "config.json"), ("folder", path)):
        run = tmp_path / name
        options = ["--seed", "3", "--total-steps", "64", "--run-dir", str(run)]
        capsys.readouterr()
        assert main(["train", "--config", str(where), *options, "--quiet"]) == 0
        assert capsys.readouterr() == ("", "")
        changed = dataclasses.replace(config, seed=3, total_steps=64)
        assert RunDirectory(run).shown_config() == changed
    bad = tmp_path / "bad.json"
    bad.write_text('{"env_id": "CartPole-v1", "steps": 3}')
    for wrong, said in (
        (["--config", str(bad)], "steps"),
        (["--config", str(tmp_path / "none")], "`--config`: expected a path"),
        (["--config", str(path), "--from", str(path)], "expected one of --from and"),
    ):
        assert main(["train", *wrong, "--run-dir", str(tmp_path / "new")]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()


def test_code_of_a_file_s_settings_is_asked_for(
    tmp_path, finished, capsys, monkeypatch
):
    _, config = finished
    monkeypatch.chdir(tmp_path)
    # Beside the user, where a name of it would be found.
    (tmp_path / "strange.py").write_text("open('executed', 'x')")
    for changes in ({"modules": ("strange",)}, {"wrapper_class": "strange:Wrapper"}):
        strange = dataclasses.replace(config, **changes)
        RunDirectory(tmp_path / "a").write_config(strange)
        for option in ("--config", "--from"):
            assert main(["train", option, "a", "--run-dir", "b"]) == 2
            assert "--module" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "strange.py"]


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_threads_are_as_many_as_are_asked_for(tmp_path, finished, backend):
    run = tmp_path / "run"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "trpo", "train", "--config", str(finished[0])),
            *("--backend", backend, "--total-steps", "64", "--eval-episodes", "0"),
            *("--run-dir", str(run), "--threads", "1"),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={n: v for n, v in os.environ.items() if n != "OMP_NUM_THREADS"},
    )
    assert f"{backend} on cpu, 1 thread\n" in done.stdout
    assert RunDirectory(run).load()[0].metadata["threads"] == 1


def test_threads_are_a_count(finished, capsys):
    assert main(["evaluate", str(finished[0]), "--threads", "0"]) == 2
    assert "`threads`: expected an integer of at least 1, got 0" in (
        capsys.readouterr().err
    )
