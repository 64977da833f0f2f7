"""EnvPool's environments: Gymnasium's dynamics, whole episodes, runs that repeat."""

import importlib.util

import gymnasium
import numpy as np
import pytest

from examples.cost_environments import ENV_ID
from trpo.cli.main import main
from trpo.common.random_streams import Purpose
from trpo.config.presets import preset_config
from trpo.environments.envpool_vector import PooledVectorEnv
from trpo.environments.make import make_environment, make_vector_environment
from trpo.rollout.collector import RolloutCollector
from trpo.training.trainer import Trainer


def pool(env_id, num_envs, seed=3, **options):
    return make_vector_environment(
        env_id, num_envs, seed=seed, vectorization="envpool", **options
    )


def config(env_id="Pendulum-v1", **fields):
    fields = {"num_envs": 3, "rollout_steps": 90, "value_epochs": 1, "seed": 5} | fields
    return preset_config(
        env_id, backend="torch", policy_layer_sizes=(4,), critic_layer_sizes=(4,),
        vectorization="envpool", **fields,
    )  # fmt: skip


# Both step from one state: EnvPool's observation is all of it but the position along
# the track, which its infos have.
@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"])
def test_dynamics_and_rewards_are_gymnasiums(env_id):
    env = pool(env_id, 4)
    obs, infos = env._pool.reset()
    twin = gymnasium.make(env_id).unwrapped
    joints = twin.model.nq - 1
    generator, compared, done = np.random.default_rng(1), 0, np.zeros(4, dtype=bool)
    for _ in range(20):
        actions = generator.uniform(-1, 1, (4, *env.single_action_space.shape))
        before, where, reset = obs, infos["x_position"], done
        obs, rewards, terminated, truncated, infos = env._pool.step(actions)
        done = terminated | truncated
        # Some observations have velocities clipped to 10, which hides the state.
        for i in np.flatnonzero(~reset & np.all(np.abs(before) < 10, axis=1)):
            position = np.concatenate([where[i : i + 1], before[i, :joints]])
            twin.set_state(position, before[i, joints:])
            twin.data.qacc_warmstart[:] = 0.0  # The solver's, not the state's.
            expected, reward, ended, _, _ = twin.step(actions[i])
            np.testing.assert_allclose(obs[i], expected, rtol=0.0, atol=1e-11)
            assert rewards[i] == pytest.approx(reward, abs=1e-6)  # EnvPool's float32.
            assert terminated[i] == ended
            compared += 1
    assert compared > 10
    twin.close()
    env.close()


def test_an_episode_ends_and_the_next_begins_in_the_same_step():
    env = pool("CartPole-v1", 5)
    before, _ = env.reset()
    ended = 0
    for _ in range(60):
        obs, rewards, terminated, truncated, infos = env.step(np.ones(5, dtype=int))
        assert obs is not before  # A collector keeps what it was given.
        done = terminated | truncated
        np.testing.assert_array_equal(rewards, 1.0)
        for i in np.flatnonzero(done):
            ended += 1
            assert abs(infos["final_obs"][i][2]) > 0.2  # The pole has fallen,
            assert np.all(np.abs(obs[i]) <= 0.05)  # and stands again.
        assert np.all(np.abs(obs[~done, 2]) < 0.2095)
        before = obs
    assert ended > 20
    env.close()


def test_a_time_limit_truncates():
    env = pool("Pendulum-v1", 2)
    env.reset()
    for step in range(1, 401):
        _, _, terminated, truncated, _ = env.step(np.zeros((2, 1)))
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (step % 200 == 0)
    env.close()


def test_a_reset_of_some_leaves_the_others():
    env = pool("Pendulum-v1", 3)
    obs, _ = env.reset()
    some = np.array([False, True, False])
    fresh, _ = env.reset(options={"reset_mask": some})
    assert np.all((fresh != obs).any(axis=1) == some)
    env.close()


def test_seeds_are_of_run_environment_and_purpose():
    def first(seed=3, num_envs=4, **options):
        env = pool("Pendulum-v1", num_envs, seed, **options)
        obs, _ = env.reset()
        env.close()
        return obs

    whole = first()
    np.testing.assert_array_equal(whole, first())
    assert len(np.unique(whole[:, 0])) == 4
    assert np.all(whole != first(seed=4))
    assert np.all(whole != first(purpose=Purpose.EVALUATION_RESET))
    # Processes that share a run's environments have the same ones.
    np.testing.assert_array_equal(whole[2:], first(share=slice(2, 4)))


def test_a_run_repeats_and_goes_on_with_new_episodes_after_a_resume():
    states = []
    for _ in range(2):
        trainer = Trainer(config())
        for _ in range(3):
            trainer.train_once()
        states.append(trainer.get_state())
        trainer.close()
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)
    resumed = []
    for _ in range(2):
        trainer = Trainer(config())
        # 270 steps: 70 into the second episode of each.
        assert trainer.set_state(states[0]) == (0, 1, 2)
        assert list(trainer.collector.get_state()["episode"]) == [2, 2, 2]
        trainer.train_once()
        resumed.append(trainer.get_state())
        trainer.close()
    for name, array in resumed[0].items():
        np.testing.assert_array_equal(array, resumed[1][name], err_msg=name)


def test_a_rollout_has_the_returns_of_its_rewards():
    env = pool("CartPole-v1", 4)
    collector = RolloutCollector(env)
    trainer = Trainer(config("CartPole-v1", num_envs=4))
    rollout = collector.collect(trainer.agent, 64)
    assert rollout.valid.all()
    assert len(rollout.episodes) == rollout.terminated.sum() > 3
    assert all(episode[0] == episode[1] for episode in rollout.episodes)
    trainer.close()
    env.close()


def test_the_command_trains_and_evaluates_in_gymnasiums_environment(tmp_path, capsys):
    run = tmp_path / "run"
    command = [
        "train", "CartPole-v1", "--vectorization", "envpool", "--backend", "torch",
        "--total-steps", "2048", "--eval-episodes", "2", "--run-dir", str(run),
    ]  # fmt: skip
    assert main(command) == 0
    assert main(["evaluate", str(run), "--episodes", "3"]) == 0
    assert "over 3 episodes" in capsys.readouterr().out


def test_what_it_can_not_serve_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="an environment that EnvPool has"):
        pool(ENV_ID, 2)
    like = make_environment("CartPole-v1", seed=0)
    like.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,))
    with pytest.raises(ValueError, match=r"observations of CartPole-v1 to be"):
        PooledVectorEnv("CartPole-v1", like, range(2), seed=0)
    like = make_environment("CartPole-v1", seed=0)
    like.action_space = gymnasium.spaces.Discrete(3)
    with pytest.raises(ValueError, match=r"actions of CartPole-v1 to be"):
        PooledVectorEnv("CartPole-v1", like, range(2), seed=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r'pip install "trpo\[envpool\]"'):
        pool("CartPole-v1", 2)
