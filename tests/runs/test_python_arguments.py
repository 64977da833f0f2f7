"""Runs that are given code: what is recorded of it, and who has to give it again."""

import dataclasses
import math
import sys

import gymnasium
import numpy as np
import pytest

from tests.support import own_networks
from tests.support.callback_runs import small
from trpo.cli.main import main
from trpo.common.user_modules import UntrustedModuleError
from trpo.runs.checkpoint import CheckpointError, save_checkpoint
from trpo.runs.directory import RunDirectory, load_agent
from trpo.runs.evaluate import evaluate_run
from trpo.runs.metrics import METRICS, read_metrics
from trpo.runs.train import resumed_config, train_run
from trpo.training.trainer import Trainer


BACKENDS = ("torch", "jax")
MODULE = "tests.support.own_networks"
NETWORKS = {
    "policy_network": f"{MODULE}:policy",
    "value_network": f"{MODULE}:value",
}


def short(**changes):
    return small(**{"total_steps": 128, "eval_interval": 0,
                    "policy_layer_sizes": (64, 64), "critic_layer_sizes": (64, 64),
                    **changes})  # fmt: skip


def state_of(run):
    return RunDirectory(run).load()[0].arrays


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def evaluated(run, **options):
    return evaluate_run(
        run, **{"episodes": 2, "backend": None, "device": "cpu", "seed": None,
                "deterministic": True, "video": None, **options},
    )[0]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_networks_of_a_name_are_recorded_and_found_again(tmp_path, backend):
    run, whole = tmp_path / "run", tmp_path / "whole"
    config = short(backend=backend)
    # A function by itself, and by its name, are one.
    train_run(config, run, policy_network=own_networks.policy,
              value_network=own_networks.value)  # fmt: skip
    assert {
        n: getattr(RunDirectory(run).shown_config(), n) for n in NETWORKS
    } == NETWORKS
    assert "given" not in RunDirectory(run).load()[0].metadata
    named = dataclasses.replace(config, **NETWORKS, total_steps=256)
    train_run(named, whole)
    # It is imported already, but a stranger's configuration would have it called.
    for load in (load_agent, resumed_config, evaluated):
        with pytest.raises(UntrustedModuleError, match=f"names {MODULE} itself"):
            load(run)
    again = {name: getattr(own_networks, name[:-8]) for name in NETWORKS}
    agent, loaded = load_agent(run, **again)
    assert_equal(
        {n: a for n, a in agent.get_state().items() if n != "random.seed"},
        {n: state_of(run)[n] for n in agent.get_state() if n != "random.seed"},
    )
    assert loaded.policy_network == NETWORKS["policy_network"]
    train_run(resumed_config(run, 256, modules=[MODULE]), run, resume=True)
    assert_equal(state_of(run), state_of(whole))
    scores = [evaluated(run, modules=[MODULE], backend=other) for other in BACKENDS]
    np.testing.assert_array_equal(scores[0].returns, scores[1].returns)


@pytest.mark.parametrize("backend", BACKENDS)
def test_networks_are_typed_on_the_command_line(tmp_path, backend, capsys, monkeypatch):
    file = f"trpo_typed_nets_{backend}"
    (tmp_path / f"{file}.py").write_text(
        f"from {MODULE} import policy, value, fails, needs_more, NO_FUNCTION\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sizes = ["--num-envs", "2", "--rollout-steps", "32", "--total-steps", "64"]
    train = ["train", "CartPole-v1", "--backend", backend, "--eval-episodes", "0"]
    nets = ["--policy-network", f"{file}:policy"]
    nets += ["--value-network", f"{file}:value"]
    assert main([*train, *sizes, *nets, "--run-dir", "run"]) == 0
    assert "network.0.weight" in " ".join(state_of(tmp_path / "run"))
    printed = capsys.readouterr().out
    module = f"--module {file}.py"
    assert f"trpo evaluate run {module}" in printed
    for other in BACKENDS:
        command = ["evaluate", "run", "--episodes", "1", "--backend", other]
        assert main([*command, *module.split()]) == 0
    assert main(["train", "--resume", "run", "--total-steps", "128"]) == 2
    assert module in capsys.readouterr().err
    resume = ["train", "--resume", "run", "--total-steps", "128", *module.split()]
    assert main(resume) == 0
    for name, words in {
        f"{file}:nothing": "has no attribute 'nothing'",
        f"{file}:NO_FUNCTION": "is ndarray",
        f"{file}:needs_more": "asks for 'units'",
        f"{file}:fails": "failed: KeyError: 'planted'",
        "trpo_no_such_nets:policy": "no such module",
    }.items():
        capsys.readouterr()
        assert main([*train, *sizes, "--policy-network", name]) == 2, name
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_weights_of_a_function_s_network_are_of_the_run_s_seed():
    states = []
    for seed in (3, 3, 4):
        import torch

        torch.manual_seed(len(states))  # Of the process: of no account, and untouched.
        before = torch.random.get_rng_state()
        trainer = Trainer(short(seed=seed), policy_network=own_networks.policy)
        assert torch.equal(before, torch.random.get_rng_state())
        trainer.close()
        states.append(trainer.get_state()["policy.network.0.weight"])
    np.testing.assert_array_equal(states[0], states[1])
    assert (states[0] != states[2]).any()


class Narrow(gymnasium.Env):
    """Nobody has registered it."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.count += 1
        obs = np.full(2, self.count / 10, np.float32)
        return obs, float(action), self.count == 9, False, {}


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_environment_of_python_is_noted_and_asked_for_again(tmp_path, backend):
    run = tmp_path / "run"
    config = dataclasses.replace(short(backend=backend), env_id="narrow")

    def local():
        return Narrow()

    for make, said in ((Narrow, f"{__name__}:Narrow"), (local, "given in Python")):
        path = run / backend / said[:5]
        train_run(config, path, env=make)
        assert RunDirectory(path).load()[0].metadata["given"] == {"env": said}
        for again in (lambda p: train_run(config, p, resume=True), evaluated):
            with pytest.raises(CheckpointError, match=rf"`env` \({said}\), got none"):
                again(path)
        # The agent alone needs no environment: its spaces are in the checkpoint.
        agent, _ = load_agent(path)
        action, _ = agent.predict(np.zeros(2, np.float32), deterministic=True)
        assert action in Narrow.action_space
        assert len(evaluated(path, env=make).returns) == 2
        longer = dataclasses.replace(config, total_steps=256)
        train_run(longer, path, resume=True, env=make)
        assert RunDirectory(path).load()[0].step == 256


def test_load_agent_makes_no_environment(tmp_path, monkeypatch):
    train_run(short(), tmp_path / "run")
    monkeypatch.delitem(gymnasium.registry, "CartPole-v1")
    agent, _ = load_agent(tmp_path / "run")
    assert agent.spec.observation_space.shape == (4,)


SCHEDULES = {
    "target_kl": lambda remaining: 0.01 * remaining,
    "value_lr": lambda remaining: np.float32(1e-3) * remaining,
    "entropy_coefficient": lambda remaining: 0.02 * (remaining - 0.25),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_schedules_are_logged_as_used_and_resumed(tmp_path, backend):
    config = short(backend=backend, total_steps=256, eval_interval=0)
    run, whole = tmp_path / "run", tmp_path / "whole"
    train_run(config, whole, schedules=SCHEDULES)
    rows = read_metrics(whole / METRICS)
    for name, column in (
        ("target_kl", "policy/target_kl"),
        ("value_lr", "value/learning_rate"),
        ("entropy_coefficient", "policy/entropy_coefficient"),
    ):
        expected = [SCHEDULES[name](f) for f in (1.0, 0.75, 0.5, 0.25)]
        np.testing.assert_allclose([row[column] for row in rows], expected, rtol=1e-6)
    saved = RunDirectory(whole).shown_config().agent
    assert saved.target_kl == 0.01
    assert math.isclose(saved.entropy_coefficient, 0.015)

    stop = 2

    def stopping(progress):
        return progress.update < stop

    train_run(config, run, schedules=SCHEDULES, callbacks=[stopping])
    stop = 9
    given = {f"schedules['{name}']": "given in Python" for name in SCHEDULES}
    assert RunDirectory(run).load()[0].metadata["given"] == given
    resumed = resumed_config(run)
    with pytest.raises(CheckpointError, match=r"`schedules\['target_kl'\]`"):
        train_run(resumed, run, resume=True)
    load_agent(run)  # Which needs none of them.
    train_run(resumed, run, resume=True, schedules=SCHEDULES)
    assert_equal(state_of(run), state_of(whole))


@pytest.mark.parametrize(
    ("schedules", "words"),
    [
        ({"gamma": lambda f: f}, "`schedules`: expected one of"),
        ({"target_kl": 0.01}, "expected a function of the remaining fraction"),
        ({"target_kl": lambda f: -f}, "above 0 for 'target_kl' with 1 of the run"),
        ({"value_lr": lambda f: "x"}, "above 0 for 'value_lr'"),
        ({"entropy_coefficient": lambda f: 1 - f}, "above 0 at the beginning"),
    ],
)
def test_schedules_that_say_no_such_number_are_refused_at_once(schedules, words):
    with pytest.raises(ValueError, match=words):
        Trainer(short(), schedules=schedules)


def test_a_schedule_that_fails_later_changes_nothing():
    config = short(final_target_kl=0.001)
    with pytest.raises(ValueError, match="`final_target_kl` or a schedule"):
        Trainer(config, schedules={"target_kl": lambda f: f})
    trainer = Trainer(short(), schedules={"target_kl": lambda f: 0.1 if f == 1 else -1})
    trainer.train_once()
    before = trainer.get_state()
    with pytest.raises(ValueError, match=r"with 0\.5 of the run remaining, got -1"):
        trainer.train_once()
    assert_equal(trainer.get_state(), before)
    trainer.close()


def test_a_note_of_a_stranger_s_is_refused(tmp_path):
    train_run(short(), tmp_path / "run")
    directory = RunDirectory(tmp_path / "run")
    checkpoint = directory.load()[0]
    for note in ({"given": 3}, {"given": {"env": 3}}, {"networks": ["policy"]}):
        metadata = checkpoint.metadata | note
        save_checkpoint(directory.checkpoints, 128, checkpoint.arrays, metadata, 1)
        with pytest.raises(CheckpointError, match="`given`: expected names"):
            load_agent(tmp_path / "run")
    for spec in (3, {}, {**checkpoint.metadata["spec"], "obs_dim": 10**9}):
        metadata = checkpoint.metadata | {"spec": spec}
        save_checkpoint(directory.checkpoints, 128, checkpoint.arrays, metadata, 1)
        with pytest.raises(CheckpointError, match=r"`spec`: expected|weights"):
            load_agent(tmp_path / "run")
