"""Discrete spaces through the loop: learned, resumed, evaluated, in both backends."""

import json

import gymnasium
import numpy as np
import pytest

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
from tests.support.counting_environments import Echo, Pointer, Switches
from tests.support.training_runs import moment_of
from trpo.agent.make import make_agent
from trpo.common.tensors import encode_manifest
from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig
from trpo.environments.make import make_environment
from trpo.rollout.evaluation import evaluate
from trpo.runs.checkpoint import CheckpointError
from trpo.runs.directory import RunDirectory, load_agent
from trpo.runs.train import train_run
from trpo.training.state import agent_state
from trpo.training.trainer import Trainer


BACKENDS = ("torch", "jax")
SETTINGS = {
    "num_envs": 8,
    "rollout_steps": 64,
    "normalize_observations": False,
    "policy_layer_sizes": (32,),
    "critic_layer_sizes": (32,),
    "gamma": 0.1,
    "target_kl": 0.05,
    "cg_damping": 0.01,
    "value_epochs": 5,
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("environment", [Echo, Switches, Pointer])
def test_a_riddle_is_solved(environment, backend):
    env_id = f"TrpoTest/{environment.__name__}-v0"
    trainer = Trainer(preset_config(env_id, backend=backend, **SETTINGS))
    try:
        before = evaluate(trainer.agent, env_id, episodes=25, seed=1).mean
        trainer.run(num_updates=25)
    finally:
        trainer.close()
    after = evaluate(trainer.agent, env_id, episodes=25, seed=1).mean
    # Beginner's guesses are right half of the time; the best return is known.
    assert before < 0.7 * environment.best_return
    assert 0.95 * environment.best_return < after <= environment.best_return


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_with_starts_resumes_exactly_and_loads_in_the_other(tmp_path, backend):
    env_id, small = "TrpoTest/Echo-v0", {**SETTINGS, "rollout_steps": 13}
    config = preset_config(env_id, backend=backend, total_steps=4 * 104, **small)
    whole, half = Trainer(config), Trainer(config)
    whole.run()
    half.run(num_updates=2)
    directory = RunDirectory(tmp_path / "run")
    directory.save(moment_of(half))
    resumed = Trainer(config)
    assert resumed.set_state(directory.load()[0].arrays) == ()
    resumed.run()
    left, right = whole.get_state(), resumed.get_state()
    assert set(left) == set(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    other = BACKENDS[1 - BACKENDS.index(backend)]
    agent, _ = load_agent(directory.path, backend=other)
    obs = np.eye(5, dtype=np.float32)
    for ours, theirs in zip(agent.act(obs), half.agent.act(obs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_manifest_names_the_distribution_and_another_is_refused(tmp_path):
    config = preset_config(
        "TrpoTest/Echo-v0", backend="torch", total_steps=104, **SETTINGS
    )
    train_run(config, tmp_path / "run")
    directory = RunDirectory(tmp_path / "run")
    checkpoint, _ = directory.load()
    manifest = json.loads((checkpoint.path / "manifest.json").read_text())
    assert manifest["metadata"]["policy"] == {
        "act_dim": 2, "distribution": "categorical", "action_sizes": [3, 2],
    }  # fmt: skip
    # As if another version of the environment had other actions, and, as of older
    # checkpoints, the environment is what says which.
    del manifest["manifest_sha256"], manifest["metadata"]["spec"]
    manifest["metadata"]["policy"] = {
        "act_dim": 3, "distribution": "bernoulli", "action_sizes": [],
    }  # fmt: skip
    (checkpoint.path / "manifest.json").write_bytes(encode_manifest(manifest))
    with pytest.raises(CheckpointError, match="bernoulli"):
        load_agent(directory.path)


def test_a_checkpoint_that_names_no_distribution_is_a_box_s():
    config = preset_config("Pendulum-v1", backend="torch", **SETTINGS)
    assert isinstance(config, TrainConfig)
    trainer = Trainer(config)
    saved = agent_state(trainer.get_state())
    trainer.close()
    # The names that checkpoints have had from the first.
    assert {name for name in saved if name.startswith("policy.")} == {
        "policy.log_std", "policy.layers.0.weight", "policy.layers.0.bias",
        "policy.layers.1.weight", "policy.layers.1.bias",
    }  # fmt: skip
    agent = make_agent(config, trainer.collector.spec)
    agent.set_state(saved)


def test_observations_are_flattened_and_stacks_of_images_are_not():
    env = make_environment("TrpoTest/Pointer-v0", seed=0)
    obs, _ = env.reset()
    assert obs.shape == env.observation_space.shape == (5,)
    picture = make_environment("TrpoTest/Picture-v0", seed=0)
    assert isinstance(picture.observation_space, gymnasium.spaces.Dict)
