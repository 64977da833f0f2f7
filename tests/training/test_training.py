"""The loop, runs on disk, and resuming, in both backends."""

import signal
import subprocess
import sys

import numpy as np
import pytest

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
from tests.support.event_readers import assert_events_are_the_metrics
from tests.support.training_runs import moment_of
from tests.support.waiting import PATIENCE, holding, until
from trpo.cli.main import main
from trpo.config.presets import preset_config
from trpo.rollout.evaluation import evaluate
from trpo.runs.directory import RunDirectory, load_agent
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run
from trpo.training.trainer import Trainer


BACKENDS = ("torch", "jax")
SMALL = {
    "num_envs": 2,
    "rollout_steps": 64,
    "total_steps": 6 * 128,
    "policy_layer_sizes": (16,),
    "critic_layer_sizes": (16,),
    "value_epochs": 2,
    "normalize_observations": True,
    "eval_episodes": 2,
}


def small(backend, **overrides):
    return preset_config("Pendulum-v1", backend=backend, **{**SMALL, **overrides})


def assert_states_equal(left, right):
    assert set(left) == set(right)
    for name in left:
        assert left[name].dtype == right[name].dtype, name
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ratio_starts_at_one_because_statistics_are_frozen(backend):
    trainer = Trainer(small(backend))
    for _ in range(2):
        trainer.train_once()
    rollout = trainer.collector.collect(trainer.agent, 64)
    before = trainer.agent.observation_normalizer.moments.mean.copy()
    batch, _ = trainer.prepare_batch(rollout)
    np.testing.assert_array_equal(
        before, trainer.agent.observation_normalizer.moments.mean
    )
    np.testing.assert_allclose(ratios(trainer.agent, batch), 1.0, atol=2e-6)
    trainer.agent.observe(
        rollout.obs.reshape(-1, 3) + 1.0
    )  # The fault: statistics moved too early.
    assert np.abs(ratios(trainer.agent, batch) - 1.0).max() > 1e-4


def ratios(agent, batch):
    native = agent._check_batch(batch)
    _, ratio, _ = agent._policy_objective(
        native.obs, native.actions, native.log_probs, native.advantages
    )
    return agent.backend.to_numpy(ratio)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cut", [1, 3])
def test_resume_is_bit_exact(tmp_path, backend, cut):
    straight = Trainer(small(backend))
    straight.run(num_updates=6)

    first = Trainer(small(backend))
    first.run(num_updates=cut)
    directory = RunDirectory(tmp_path / "run")
    directory.save(moment_of(first))
    second = Trainer(small(backend))
    assert second.set_state(directory.load()[0].arrays) == ()
    second.run(num_updates=6)

    assert_states_equal(straight.get_state(), second.get_state())
    for left, right in zip(
        straight.agent.act(straight.collector.obs),
        second.agent.act(second.collector.obs),
        strict=True,
    ):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("backend", BACKENDS)
def test_same_seed_same_run_and_another_seed_another(backend):
    states = []
    for seed in (3, 3, 4):
        trainer = Trainer(small(backend, seed=seed))
        trainer.run(num_updates=2)
        states.append(trainer.get_state())
    assert_states_equal(states[0], states[1])
    weight = "policy.layers.0.weight"
    assert not np.array_equal(states[0][weight], states[2][weight])


def test_evaluation_changes_nothing_and_repeats_itself():
    trainer = Trainer(small("torch"))
    trainer.run(num_updates=2)
    before = trainer.get_state()
    first = evaluate(trainer.agent, "Pendulum-v1", episodes=3, seed=1)
    second = evaluate(trainer.agent, "Pendulum-v1", episodes=3, seed=1)
    assert_states_equal(before, trainer.get_state())
    np.testing.assert_array_equal(first.returns, second.returns)
    assert set(first.lengths) == {200}
    assert len(set(first.returns)) == 3


def test_evaluation_counts_whole_episodes_once():
    trainer = Trainer(preset_config("TrpoTest/Counter-v0", backend="torch", **SMALL))
    result = evaluate(trainer.agent, "TrpoTest/Counter-v0", episodes=6, seed=1)
    assert len(set(result.lengths)) > 1
    assert result.lengths.min() >= 2
    assert result.lengths.max() <= 6


def test_ctrl_c_saves_and_the_resumed_run_equals_an_uninterrupted_one(tmp_path):
    config = small("torch", total_steps=24 * 128, eval_episodes=0)
    arguments = [
        *("train", "Pendulum-v1", "--backend", "torch", "--num-envs", "2"),
        *("--rollout-steps", "64", "--total-steps", str(24 * 128)),
        *("--policy-layer-sizes", "16", "--critic-layer-sizes", "16"),
        *("--value-epochs", "2", "--eval-episodes", "0", "--normalize-observations"),
        *("--run-dir", str(tmp_path / "run")),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "trpo", *arguments], env=holding(tmp_path / "hold")
    )
    metrics = tmp_path / "run" / "metrics.csv"
    until(lambda: read_metrics(metrics), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE) == 130
    assert len(read_metrics(metrics)) == 1
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    straight = Trainer(config)
    straight.run()
    resumed = RunDirectory(tmp_path / "run").load()[0].arrays
    assert_states_equal(straight.get_state(), dict(resumed))
    assert len(read_metrics(metrics)) == 24


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_run_resumes_from_its_last_checkpoint(tmp_path, backend):
    config = small(backend, checkpoint_interval=2, eval_episodes=0)
    run = tmp_path / "run"
    script = (
        "import os, signal, pathlib, trpo.runs.train as c, trpo.runs.metrics as m\n"
        "from trpo.config.run import TrainConfig\n"
        f"config = TrainConfig.from_dict({config.to_dict()!r})\n"
        "write = m.MetricsWriter.write\n"
        "def die(self, step, row):\n"
        "    write(self, step, row)\n"
        "    if row['update'] == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "m.MetricsWriter.write = die\n"
        f"c.train_run(config, pathlib.Path({str(run)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(read_metrics(run / "metrics.csv")) == 5
    train_run(config, run, resume=True)
    straight = Trainer(config)
    straight.run()
    assert_states_equal(straight.get_state(), dict(RunDirectory(run).load()[0].arrays))
    assert len(read_metrics(run / "metrics.csv")) == 6
    assert_events_are_the_metrics(run)


def test_a_broken_checkpoint_is_named_and_the_one_before_it_used(tmp_path, capsys):
    config = small("torch", checkpoint_interval=2, eval_episodes=0)
    train_run(config, tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    content = bytearray((newest / "state.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "state.safetensors").write_bytes(content)
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "skipped a broken checkpoint" in printed
    assert "at step 512" in printed


def test_load_agent_gives_the_same_actions_in_either_backend(tmp_path):
    train_run(small("jax"), tmp_path / "run")
    obs = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    actions = [
        load_agent(tmp_path / "run", backend=name)[0].act(obs, deterministic=True)[0]
        for name in BACKENDS
    ]
    np.testing.assert_allclose(actions[0], actions[1], rtol=1e-5, atol=1e-6)


def test_a_trainer_closes_its_environments_as_a_block_ends():
    with Trainer(small("torch")) as trainer:
        trainer.train_once()
    assert trainer.env.closed
    trainer = Trainer(small("torch"))
    trainer.env.close = lambda: 1 / 0
    with pytest.raises(RuntimeError, match="of the block") as told, trainer:
        raise RuntimeError("of the block")
    assert told.value.__notes__ == ["after that, ZeroDivisionError: division by zero"]
