"""Rollouts: episode borders, autoreset modes, clipping, seeds, replay."""

import functools

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
from trpo.data.advantages import generalized_advantages
from trpo.environments.make import (
    UnknownEnvironmentError,
    make_environment,
    make_vector_environment,
)
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.transitions import (
    FEW,
    FINITE,
    NonFiniteTransitionError,
    are_within,
)


class LinearAgent:
    """Acts from the observation and its own step count; V(s) = 10 draw + count."""

    obs_dim, act_dim = 2, 1

    def __init__(self):
        self.calls = 0

    def sample_actions(self, obs, deterministic=False, action_mask=None):
        self.calls += 1
        return np.sin(np.arange(len(obs))[:, None] + self.calls) * 3.0

    def host_policy(self, rows):
        return None

    def evaluate_actions(self, obs, actions, action_mask=None):
        return -np.abs(actions), self.value(obs)

    def value(self, obs):
        return 10.0 * obs[:, :1] + obs[:, 1:]


def vector(mode, num_envs=3, env_id="TrpoTest/Counter-v0"):
    makers = [
        functools.partial(make_environment, env_id, seed=5, env_index=i)
        for i in range(num_envs)
    ]
    return SyncVectorEnv(makers, autoreset_mode=mode)


def collect(mode, steps=40, **kwargs):
    collector = RolloutCollector(vector(mode, **kwargs))
    return collector, collector.collect(LinearAgent(), steps)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_valid_transition_follows_the_environment(mode):
    _, rollout = collect(mode)
    for i in range(3):
        rows = np.flatnonzero(rollout.valid[:, i])
        count, draw = 0.0, None
        for t in rows:
            obs_draw, obs_count = rollout.obs[t, i]
            assert obs_count == count
            assert draw is None or obs_draw == draw
            sent = np.clip(rollout.actions[t, i, 0], -1, 1).astype(np.float32)
            assert rollout.rewards[t, i] == pytest.approx(obs_draw + count + 1 + sent)
            length = 2 + int(obs_draw * 5)
            done = count + 1 == length
            assert rollout.terminated[t, i] == (done and length % 2 == 0)
            assert rollout.truncated[t, i] == (done and length % 2 == 1)
            if not rollout.terminated[t, i]:
                # The value of what the step led to, also where the episode was cut.
                assert rollout.next_values[t, i] == 10 * obs_draw + count + 1
            count, draw = (0.0, None) if done else (count + 1, obs_draw)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_advantages_equal_those_of_each_episode_alone(mode):
    _, rollout = collect(mode)
    gamma, lam = 0.9, 0.8
    advantages, _ = generalized_advantages(
        rollout.rewards,
        rollout.values,
        rollout.next_values,
        rollout.terminated,
        rollout.truncated,
        gamma=gamma,
        gae_lambda=lam,
    )
    for i in range(3):
        rows = np.flatnonzero(rollout.valid[:, i])
        for start, t in enumerate(rows):
            expected, weight = 0.0, 1.0
            for k in rows[start:]:
                live = 0.0 if rollout.terminated[k, i] else rollout.next_values[k, i]
                delta = rollout.rewards[k, i] + gamma * live - rollout.values[k, i]
                expected += weight * delta
                weight *= gamma * lam
                if rollout.terminated[k, i] or rollout.truncated[k, i]:
                    break
            assert advantages[t, i] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_reaches_no_environment(value):
    collector = RolloutCollector(vector(AutoresetMode.SAME_STEP))
    actions = np.zeros((3, 1))
    actions[1] = value
    with pytest.raises(ValueError, match=r"`actions`.* at index \[1, 0\]"):
        collector.advance(actions)
    step = collector.advance(np.zeros((3, 1)))
    np.testing.assert_array_equal(step.obs[:, 1], 1.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [3, FEW + 1])
def test_numbers_are_within_a_limit_that_each_of_them_is_within(dtype, size):
    for limit in (3.0, 2.0**64, 1e130, FINITE):
        for bad in (np.nan, np.inf, -np.inf, limit, -limit, limit * (1.0 + 1e-15)):
            with np.errstate(over="ignore"):
                numbers = np.array([0.0, bad] + [1.0] * (size - 2), dtype)
            expected = bool((np.abs(numbers.astype(np.float64)) <= limit).all())
            assert are_within(numbers, limit) is expected, (bad, limit)
    assert are_within(np.array([2**64 - 1], np.uint64), 2.0**64)


def test_invalid_rows_are_the_resets_of_next_step_mode():
    _, rollout = collect(AutoresetMode.NEXT_STEP)
    ended = rollout.terminated | rollout.truncated
    np.testing.assert_array_equal(~rollout.valid[1:], ended[:-1])
    assert rollout.valid[0].all()
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
        assert collect(mode)[1].valid.all()


def test_modes_see_the_same_episodes():
    seen = [
        [e.length for e in collect(mode, steps=60)[1].episodes][:20]
        for mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)
    ]
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 2


def test_stored_actions_are_not_clipped():
    _, rollout = collect(AutoresetMode.SAME_STEP)
    assert np.abs(rollout.actions).max() > 2.0


def test_a_reused_observation_buffer_does_not_alias():
    _, reused = collect(
        AutoresetMode.SAME_STEP, env_id="TrpoTest/CounterReusedBuffer-v0"
    )
    _, fresh = collect(AutoresetMode.SAME_STEP)
    np.testing.assert_array_equal(reused.obs, fresh.obs)
    np.testing.assert_array_equal(reused.next_values, fresh.next_values)


def test_a_nan_reward_is_named():
    with pytest.raises(NonFiniteTransitionError, match=r"`rewards`.*environment 0"):
        collect(AutoresetMode.SAME_STEP, env_id="TrpoTest/CounterPoisoned-v0")


def test_state_restores_open_episodes_exactly():
    agent = LinearAgent()
    collector = RolloutCollector(vector(AutoresetMode.SAME_STEP))
    collector.collect(agent, 17)
    state, calls = collector.get_state(), agent.calls
    straight = collector.collect(agent, 23)

    again = RolloutCollector(vector(AutoresetMode.SAME_STEP))
    assert again.set_state(state) == ()
    agent.calls = calls
    resumed = again.collect(agent, 23)
    for name in ("obs", "rewards", "terminated", "truncated", "next_values"):
        np.testing.assert_array_equal(getattr(straight, name), getattr(resumed, name))
    assert straight.episodes == resumed.episodes


def test_an_episode_that_does_not_replay_is_restarted_and_named():
    collector = RolloutCollector(vector(AutoresetMode.SAME_STEP))
    collector.collect(LinearAgent(), 17)
    state = collector.get_state()
    state["obs"][1] += 1e-9
    again = RolloutCollector(vector(AutoresetMode.SAME_STEP))
    assert again.set_state(state) == (1,)
    assert again.obs[1, 1] == 0.0
    np.testing.assert_array_equal(again.obs[[0, 2]], collector.obs[[0, 2]])


def test_asynchronous_workers_give_the_same_rollout():
    env = make_vector_environment("Pendulum-v1", 2, seed=5, vectorization="async")
    try:
        workers = RolloutCollector(env).collect(PendulumAgent(), 30)
    finally:
        env.close()
    env = make_vector_environment("Pendulum-v1", 2, seed=5)
    here = RolloutCollector(env).collect(PendulumAgent(), 30)
    np.testing.assert_array_equal(workers.obs, here.obs)
    np.testing.assert_array_equal(workers.rewards, here.rewards)


class PendulumAgent(LinearAgent):
    def value(self, obs):
        return obs[:, :1]


def test_unknown_environment_names_close_matches():
    with pytest.raises(UnknownEnvironmentError, match="Pendulum-v1"):
        make_environment("Pendulm-v1", seed=0)
    with pytest.raises(UnknownEnvironmentError, match="NoModuleOfThisName"):
        make_environment("NoModuleOfThisName:Env-v0", seed=0)
    # A stranger's id is no path to import from.
    with pytest.raises(UnknownEnvironmentError, match="dotted name"):
        make_environment("../../evil:Evil-v0", seed=0)


def test_default_autoreset_of_gymnasium_is_accepted():
    env = gymnasium.make_vec("Pendulum-v1", num_envs=2)
    rollout = RolloutCollector(env).collect(PendulumAgent(), 205)
    assert (~rollout.valid).sum() == 2
    env.close()
