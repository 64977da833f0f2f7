"""`trpo.train_compiled`: many seeds in one program, from Python."""

import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from gymnasium.envs.functional_jax_env import FunctionalJaxEnv
from gymnasium.experimental.functional import FuncEnv

import trpo
from trpo.cli.main import main
from trpo.runs.directory import RunDirectory, load_agent


class Reach(FuncEnv):
    """A point on a line is to be moved to 0."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def initial(self, rng, params=None):
        return jax.random.uniform(rng, (1,), minval=-1.0, maxval=1.0)

    def transition(self, state, action, rng, params=None):
        return state + 0.2 * action

    def observation(self, state, rng, params=None):
        return state

    def reward(self, state, action, next_state, rng, params=None):
        return -jnp.sum(next_state**2)

    def terminal(self, state, rng, params=None):
        return jnp.zeros((), bool)


def reach():
    return gymnasium.wrappers.TimeLimit(FunctionalJaxEnv(Reach()), 20)


def network(obs_dim, outputs, seed):
    rngs = nnx.Rngs(seed)
    layers = nnx.Linear(obs_dim, 8, rngs=rngs), jax.nn.tanh
    return nnx.Sequential(*layers, nnx.Linear(8, outputs, rngs=rngs))


SMALL = {"num_envs": 4, "rollout_steps": 32, "total_steps": 4 * 128,
         "value_epochs": 1, "eval_episodes": 3, "policy_layer_sizes": (64, 64),
         "critic_layer_sizes": (64, 64)}  # fmt: skip
SEEDS = [3, 4]


def test_curves_and_returns_are_arrays_of_seeds_and_updates(tmp_path):
    told = {}

    def callbacks(seed):
        return [lambda progress: told.setdefault(seed, []).append(progress.update)]

    result = trpo.train_compiled(
        reach(), SEEDS, policy_network=network, callbacks=callbacks, eval_interval=2,
        schedules={"target_kl": lambda left: 0.01 * left}, **SMALL,
    )  # fmt: skip
    assert told == {seed: [1, 2, 3, 4] for seed in SEEDS}
    assert result.seeds.tolist() == SEEDS
    assert result.steps.tolist() == [128, 256, 384, 512]
    assert {curve.shape for curve in result.curves.values()} == {(2, 4)}
    radius = result.curves["policy/target_kl"]
    np.testing.assert_allclose(radius, [[0.01, 0.0075, 0.005, 0.0025]] * 2)
    assert (result.curves["policy/kl"] <= radius).all()
    evaluated = np.isfinite(result.curves["evaluation/return_mean"])
    assert evaluated.tolist() == [[False, True, False, True]] * 2
    assert result.returns.shape == (2, 3)
    np.testing.assert_array_equal(result.final_returns, result.returns.mean(1))
    # Of the same seeds a run directory has the same, and each alone, too.
    arguments = {"policy_network": network, "eval_interval": 2,
                 "schedules": {"target_kl": lambda left: 0.01 * left}}  # fmt: skip
    run = tmp_path / "run"
    on_disk = trpo.train_compiled(reach, SEEDS, run_dir=run, **arguments, **SMALL)
    for name in ("policy/kl", "loss/value", "evaluation/return_mean"):
        np.testing.assert_array_equal(on_disk.curves[name], result.curves[name])
    np.testing.assert_array_equal(on_disk.returns, result.returns)
    note = RunDirectory(run / "seed=3").load()[0].metadata["given"]
    assert note["env"] == f"{__name__}:reach"
    agent, _ = load_agent(run / "seed=4", policy_network=network)
    obs = np.ones((5, 1), np.float32)
    for other in (result.agents[1], on_disk.agents[1]):
        np.testing.assert_array_equal(agent.act(obs, True)[0], other.act(obs, True)[0])
    # It goes on with what is given again.
    longer = SMALL | {"total_steps": 6 * 128}
    further = trpo.train_compiled(
        reach, SEEDS, run_dir=run, resume=True, **arguments, **longer
    )
    assert further.steps.tolist() == [640, 768]


def test_what_is_no_compiled_training_is_refused(tmp_path):
    wrapped = gymnasium.wrappers.TransformReward(reach(), np.negative)
    for env, words in (
        (FunctionalJaxEnv(Reach()), "in a gymnasium.wrappers.TimeLimit"),
        (wrapped, "no wrapper but TimeLimit"),
        ("CartPole-v1", "FuncEnv"),
        (gymnasium.make("CartPole-v1"), "FunctionalJaxEnv"),
    ):
        with pytest.raises(ValueError, match=words):
            trpo.train_compiled(env, [0], **SMALL)
    for seeds in ([], [1, 1]):
        with pytest.raises(ValueError, match="`seeds`: expected distinct numbers"):
            trpo.train_compiled(reach(), seeds, **SMALL)
    with pytest.raises(ValueError, match="follow each other"):
        trpo.train_compiled(reach(), [1, 5], run_dir=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="`backend`: expected 'jax'"):
        trpo.train_compiled(reach(), [0], **SMALL, backend="torch")


def test_an_id_of_a_module_trains_compiled(tmp_path, monkeypatch):
    (tmp_path / "trpo_reach.py").write_text(
        "import gymnasium\n"
        f"from {__name__} import Reach\n"
        "from gymnasium.envs.functional_jax_env import FunctionalJaxEnv\n"
        "gymnasium.register('Reach-v0', lambda **k: FunctionalJaxEnv(Reach(), **k),\n"
        "                   max_episode_steps=20)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    command = ["train", "trpo_reach:Reach-v0", "--compiled", "--num-seeds", "2"]
    sizes = ["--num-envs", "4", "--rollout-steps", "32", "--total-steps", "128"]
    try:
        assert main([*command, *sizes, "--eval-episodes", "0", "--run-dir", "run"]) == 0
    finally:
        gymnasium.registry.pop("Reach-v0", None)
    assert (tmp_path / "run" / "seed=1" / "metrics.csv").exists()
