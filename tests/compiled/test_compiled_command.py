"""`trpo train --compiled`: files, members, resuming, what it says to mistakes."""

import contextlib
import csv
import dataclasses
import errno
import json
import os
import re
import signal

import numpy as np
import pytest

from trpo.cli.main import main
from trpo.config.presets import preset_config
from trpo.data.report import METRIC_NAMES
from trpo.runs.compiled import (
    LONGEST_CHUNK,
    compiled_run,
    train_compiled_run,
)
from trpo.runs.directory import RunDirectory, RunDirectoryError, load_agent
from trpo.runs.metrics import read_metrics
from trpo.training.progress import EVALUATION_COLUMNS
from trpo.training.trainer import Trainer


SMALL = {
    "num_envs": 4,
    "rollout_steps": 50,
    "total_steps": 6 * 200,
    "policy_layer_sizes": (16,),
    "critic_layer_sizes": (16,),
    "value_epochs": 2,
    "normalize_observations": True,
    "eval_episodes": 3,
    "eval_interval": 4,
    "checkpoint_interval": 3,
}
OPTIONS = [
    *("--num-envs", "4", "--rollout-steps", "50", "--total-steps", "1200"),
    *("--policy-layer-sizes", "16", "--critic-layer-sizes", "16"),
    *("--value-epochs", "2", "--normalize-observations", "--eval-episodes", "3"),
    *("--eval-interval", "4", "--checkpoint-interval", "3"),
]
PENDULUM = ("train", "phys2d/Pendulum-v0", "--compiled")


def small(**overrides):
    return preset_config("phys2d/Pendulum-v0", **{**SMALL, **overrides})


def state_of(run):
    return RunDirectory(run).load()[0].arrays


def assert_states_equal(left, right):
    assert set(left) == set(right)
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)


def test_a_single_run_writes_what_a_plain_one_does_and_loads_in_both_backends(
    tmp_path, capsys
):
    run = tmp_path / "run"
    assert main([*PENDULUM, *OPTIONS, "--run-dir", str(run)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"return -?[\d.]+ ± [\d.]+ over 3 episodes", printed)
    for name in ("config.json", "metrics.csv", "learning_curve.png"):
        assert (run / name).stat().st_size > 0
    rows = read_metrics(run / "metrics.csv")
    assert [row["step"] for row in rows] == [200 * i for i in range(1, 7)]
    assert all(name in rows[0] for name in METRIC_NAMES)
    assert [EVALUATION_COLUMNS[0] in row for row in rows] == [
        i in (3, 5) for i in range(6)
    ]
    kls = [row["policy/kl"] for row in rows if row["policy/status"] == 0]
    assert len(kls) >= 3
    assert all(0 < kl <= 0.01 * 1.001 for kl in kls)
    assert len(list((run / "checkpoints").iterdir())) == 2

    # The compiled evaluation plays the episodes that `trpo evaluate` does.
    own = json.loads((run / "evaluation.json").read_text())
    assert own["lengths"] == [200] * 3
    for backend in ("jax", "torch"):
        command = ["evaluate", str(run), "--episodes", "3", "--json"]
        assert main([*command, "--backend", backend]) == 0
        theirs = json.loads(capsys.readouterr().out)
        np.testing.assert_allclose(theirs["returns"], own["returns"], rtol=1e-3)


@pytest.mark.parametrize("env_id", ["phys2d/Pendulum-v0", "phys2d/CartPole-v1"])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(tmp_path, env_id):
    config = preset_config(env_id, **SMALL)
    train_compiled_run(config, tmp_path / "straight", sweep={"gamma": (0.95,)})
    half = preset_config(env_id, **{**SMALL, "total_steps": 3 * 200})
    # NumPy's numbers are as good.
    numbers = {"num_seeds": np.int64(1), "sweep": {"gamma": np.array([0.95])}}
    train_compiled_run(half, tmp_path / "halves", **numbers)
    train_compiled_run(config, tmp_path / "halves", resume=True)
    assert_states_equal(state_of(tmp_path / "straight"), state_of(tmp_path / "halves"))
    steps = [
        [row["step"] for row in read_metrics(tmp_path / name / "metrics.csv")]
        for name in ("straight", "halves")
    ]
    assert steps[0] == steps[1] == [200 * i for i in range(1, 7)]


def test_the_host_s_loop_goes_on_from_a_compiled_checkpoint(tmp_path):
    train_compiled_run(small(), tmp_path / "run")
    state = state_of(tmp_path / "run")
    for backend in ("jax", "torch"):
        trainer = Trainer(small(backend=backend, total_steps=2000))
        # Open episodes are not the host's: new ones begin.
        assert trainer.set_state(state) == (0, 1, 2, 3)
        assert trainer.step_count == 1200
        assert trainer.train_once().step == 1400
        trainer.close()
    agent, _ = load_agent(tmp_path / "run")
    obs = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    actions = [
        other.act(obs, deterministic=True)[0]
        for other in (agent, load_agent(tmp_path / "run", backend="torch")[0])
    ]
    np.testing.assert_allclose(actions[0], actions[1], rtol=1e-5, atol=1e-6)


def test_many_members_have_a_directory_each_and_a_table(tmp_path, capsys):
    run = tmp_path / "run"
    sweep = ["--num-seeds", "2", "--sweep", "target_kl=0.002,0.02", "gae-lambda=0.9"]
    assert main([*PENDULUM, *OPTIONS, *sweep, "--run-dir", str(run)]) == 0
    with (run / "members.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["target_kl"], row["seed"]) for row in rows] == [
        (kl, seed) for kl in ("0.002", "0.02") for seed in ("0", "1")
    ]
    assert len({row["return_mean"] for row in rows}) == 4
    assert (run / "learning_curves.png").stat().st_size > 0
    for row in rows:
        member = run / row["member"]
        config = RunDirectory(member).read_config()
        assert config.agent.target_kl == float(row["target_kl"])
        assert (config.seed, config.agent.gae_lambda) == (int(row["seed"]), 0.9)
        kls = [r["policy/kl"] for r in read_metrics(member / "metrics.csv")]
        assert max(kls) <= config.agent.target_kl * 1.001
        # To the float32 rounding of a batched product, four times in a row.
        assert float(row["return_mean"]) < 0
    one = run / rows[0]["member"]
    assert main(["evaluate", str(one), "--episodes", "3"]) == 0
    score = capsys.readouterr().out.strip().splitlines()[-1]
    mean = float(re.fullmatch(r"return (-[\d.]+) ± .* over 3 episodes", score)[1])
    assert mean == pytest.approx(float(rows[0]["return_mean"]), rel=1e-3)
    assert main(["train", "--resume", str(run), "--total-steps", "1600"]) == 0
    assert len(read_metrics(one / "metrics.csv")) == 8


MISTAKES = {
    "no functional environment": (
        ["train", "Pendulum-v1", "--compiled"],
        r"`env_id`: expected .*FuncEnv.*phys2d/Pendulum-v0.*'Pendulum-v1'",
    ),
    "unknown environment": (
        ["train", "phys2d/Pendulum-v9", "--compiled"],
        r"Did you mean phys2d/Pendulum-v0",
    ),
    "torch": (
        [*PENDULUM, "--backend", "torch"],
        r"`backend`: expected 'jax' for compiled .*got 'torch'.*--backend jax",
    ),
    "a sweep that is no number": (
        [*PENDULUM, "--sweep", "gamma=high"],
        r"`sweep`: expected numbers of 'gamma', .* 'high'",
    ),
    "a sweep that changes the program": (
        [*PENDULUM, "--sweep", "cg_iters=5,10"],
        r"`sweep`: expected NAME=VALUE.*target_kl.*gae_lambda.*'cg_iters=5,10'",
    ),
    "a swept value out of range": (
        [*PENDULUM, "--sweep", "gamma=0.9,1.5"],
        r"`gamma`: expected a finite number in \[0, 1\], got 1.5",
    ),
    "a value twice": ([*PENDULUM, "--sweep", "gamma=0.9,0.9"], "distinct values"),
    "no seeds": ([*PENDULUM, "--num-seeds", "0"], r"`num_seeds`: expected an integer"),
    "members without the compiled loop": (
        ["train", "Pendulum-v1", "--num-seeds", "4"],
        r"expected --compiled with --num-seeds",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_and_leave_nothing_behind(mistake, tmp_path, capsys):
    arguments, message = MISTAKES[mistake]
    run = tmp_path / "run"
    assert main([*arguments, "--run-dir", str(run)]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not run.exists()


def test_a_directory_in_use_is_refused(tmp_path, capsys):
    (tmp_path / "something").touch()
    assert main([*PENDULUM, *OPTIONS, "--run-dir", str(tmp_path)]) == 2
    assert "new or empty directory" in capsys.readouterr().err


def test_callbacks_between_chunks_and_a_figure_of_all_members(tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--num-seeds", "2", "--save-best", "--stop-at-return", "-1e9"]
    options += ["--eval-interval", "2", "--run-dir", str(run)]
    assert main([*PENDULUM, *OPTIONS, *options]) == 0
    assert capsys.readouterr().out.count("reached -1e+09") == 2
    for seed in (0, 1):
        member = run / f"seed={seed}"
        rows = read_metrics(member / "metrics.csv")
        assert [row["step"] for row in rows] == [200, 400]
        assert [row["policy/target_kl"] for row in rows] == [0.01] * 2
        best = RunDirectory(member / "best").load()[0]
        assert best.step == 400
        mean = best.metadata["evaluation"]["return_mean"]
        score = json.loads((member / "evaluation.json").read_text())["mean"]
        assert rows[-1]["evaluation/return_mean"] == mean != score
        newest = RunDirectory(member).load()[0]
        assert newest.metadata["callbacks"] == {"SaveBest": {"best": mean}}
        assert_states_equal(newest.arrays, best.arrays)
        agent, _ = load_agent(member / "best", backend="torch")
        assert np.isfinite(agent.act(np.zeros((1, 3), np.float32))[0]).all()
        # On the way five episodes are played, as on the host; at the end, these.
        assert json.loads((member / "evaluation.json").read_text())["episodes"] == 3
    assert main(["train", "--resume", str(run)]) == 0
    assert len(read_metrics(run / "seed=0" / "metrics.csv")) == 4
    assert main(["plot", str(run)]) == 0
    page = (run / "diagnostics.html").read_text()
    assert "<td>seed</td><td>0</td><td>1</td>" in page


@pytest.mark.parametrize("seeds", [1, 2])
def test_all_is_saved_before_the_last_evaluation_which_a_signal_leaves_out(
    tmp_path, monkeypatch, capsys, seeds
):
    from trpo_jax.loop.trainer import CompiledTrainer

    run, config = tmp_path / "run", small(eval_interval=0)
    advance, cut = CompiledTrainer.advance, []

    def interrupted(self, episodes, *_):
        assert episodes == 3
        raise KeyboardInterrupt

    def asked(self, iterations, *others):
        if self.update_count + iterations == config.num_updates and cut:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self, iterations, *others)

    with monkeypatch.context() as patched:
        patched.setattr(CompiledTrainer, "evaluate", interrupted)
        patched.setattr(CompiledTrainer, "advance", asked)
        with pytest.raises(KeyboardInterrupt):
            train_compiled_run(config, run, num_seeds=seeds)
        members = [path.parent for path in run.glob("**/checkpoints")]
        steps = [RunDirectory(member).load()[0].step for member in members]
        assert steps == [config.num_steps] * seeds
        cut.append(True)
        assert train_compiled_run(config, tmp_path / "cut", num_seeds=seeds) == []
    assert "interrupted: not evaluated" in capsys.readouterr().out
    assert not list(tmp_path.glob("*/**/evaluation.json"))
    found = train_compiled_run(config, run, resume=True)
    assert [len(result.returns) for result in found] == [3] * seeds
    assert all((member / "evaluation.json").is_file() for member in members)


class FullDisk:
    """Has no room for the chosen ones of the states that are written, from 0."""

    def __init__(self, monkeypatch, *chosen):
        self.count, real = 0, os.open

        def opened(path, flags, *rest, **options):
            if str(path).endswith("state.safetensors") and flags & os.O_CREAT:
                self.count += 1
                if self.count - 1 in chosen:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(path, flags, *rest, **options)

        monkeypatch.setattr(os, "open", opened)


@pytest.mark.parametrize("refused", [[3], [5], range(3, 99)])
def test_a_full_disk_ends_no_run_of_many_members(tmp_path, capsys, refused):
    # Three saves of two members: states 0 and 1 are of the first. The last is tried
    # twice.
    config = small(
        total_steps=600, checkpoint_interval=1, keep_checkpoints=1, eval_interval=0,
        eval_episodes=0,
    )  # fmt: skip
    for_ever = pytest.raises(RunDirectoryError, match="room for the last checkpoint")
    with pytest.MonkeyPatch.context() as patch:
        disk = FullDisk(patch, *refused)
        with for_ever if 98 in refused else contextlib.nullcontext():
            train_compiled_run(config, tmp_path / "run", num_seeds=2)
    assert disk.count > max(set(refused) - {*range(6, 99)})
    said = " ".join(capsys.readouterr().out.split())
    assert "no checkpoint was written" in said
    assert "training goes on" in said
    run = tmp_path / "run"
    rows = [read_metrics(run / f"seed={seed}" / "metrics.csv") for seed in (0, 1)]
    assert [row["step"] for row in rows[0]] == [200.0, 400.0, 600.0]
    if 98 in refused:  # Else its last states have been written, at the second try.
        train_compiled_run(config, run, resume=True)
    train_compiled_run(config, tmp_path / "whole", num_seeds=2)
    for name in ("seed=0", "seed=1"):
        assert_states_equal(state_of(tmp_path / "whole" / name), state_of(run / name))


def test_an_interval_without_end_takes_no_memory(tmp_path):
    config = small(total_steps=10**12 - 10**6, checkpoint_interval=10**9)
    config = dataclasses.replace(config, eval_interval=0)
    driver = compiled_run(config, tmp_path, 1, {})
    driver.subject = driver.make()
    assert driver.subject.longest_chunk == driver.next_stop(0) == LONGEST_CHUNK


def test_a_limit_of_steps_beside_the_environments_own_is_refused(tmp_path, capsys):
    command = [*PENDULUM, *OPTIONS, "--run-dir", str(tmp_path / "run")]
    assert main([*command, "--eval-max-steps", "20"]) == 2
    assert (
        "`eval_max_steps`: expected 0 for compiled training" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()
