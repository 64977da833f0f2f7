"""Costs of an environment's steps, through every kind of vector."""

import functools

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import tests.support.cost_environments  # noqa: F401  (registers TrpoTest/…)
from tests.environments.test_rollout import LinearAgent
from trpo.environments.make import make_environment, make_vector_environment
from trpo.environments.step_costs import CostError
from trpo.environments.sync_vector import LeanVectorEnv
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.transitions import NonFiniteTransitionError


ENV_ID = "TrpoTest/Toll-v0"
STEPS = 25


class CostAgent(LinearAgent):
    """Whose cost critic says what it is shown, so that its values can be told."""

    def cost_value(self, obs):
        return 100.0 + obs[:, :1] + 10.0 * obs[:, 1:2]


def vector(mode, **options):
    maker = functools.partial(make_environment, ENV_ID, seed=4, **options)
    makers = [functools.partial(maker, env_index=i) for i in range(3)]
    return SyncVectorEnv(makers, autoreset_mode=mode)


def collect(env, **options):
    try:
        collector = RolloutCollector(env, costs=True, **options)
        return collector, collector.collect(CostAgent(), STEPS)
    finally:
        env.close()


def check(rollout):
    """Each step cost its number, 1 for the first; one that ends costs 100 more."""
    costs = rollout.costs
    count = rollout.obs[..., 1] + 1.0
    done = rollout.terminated | rollout.truncated
    wanted = np.where(rollout.valid, count + 100.0 * done, 0.0)
    np.testing.assert_array_equal(costs.costs, wanted)
    assert done.sum() > 10
    assert len(rollout.episodes) == done.sum()
    for episode in rollout.episodes:
        assert episode.cost == 100.0 + sum(range(1, episode.length + 1))
    # Values: of each observation, and of what each step led to.
    wanted = 100.0 + rollout.obs[..., 0] + 10.0 * rollout.obs[..., 1]
    np.testing.assert_array_equal(costs.values, wanted)
    led_to = 100.0 + rollout.obs[..., 0] + 10.0 * count
    live = rollout.valid & ~rollout.terminated
    np.testing.assert_array_equal(costs.next_values[live], led_to[live])


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_costs_of_gymnasiums_vectors(mode):
    check(collect(vector(mode))[1])


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_costs_of_our_vectors(vectorization):
    env = make_vector_environment(
        f"tests.support.cost_environments:{ENV_ID}",
        3,
        seed=4,
        vectorization=vectorization,
    )
    rollout = collect(env)[1]
    check(rollout)
    same = collect(vector(AutoresetMode.SAME_STEP))[1]
    np.testing.assert_array_equal(rollout.costs.costs, same.costs.costs)


def test_nothing_is_read_unless_it_is_asked_for():
    env = make_vector_environment("TrpoTest/TollMissing-v0", 2, seed=0)
    collector = RolloutCollector(env)
    rollout = collector.collect(LinearAgent(), 9)
    assert rollout.costs is None
    assert not [name for name in collector.get_state() if "cost" in name]


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("TrpoTest/Counter-v0", "expected the cost of each step.*environment 0"),
        ("TrpoTest/TollMissing-v0", "expected the cost of each step"),
        ("TrpoTest/TollWord-v0", "expected a number, got 'much'"),
    ],
)
def test_a_step_without_a_cost_is_refused(env_id, message):
    with pytest.raises(CostError, match=message):
        collect(make_vector_environment(env_id, 2, seed=0))


def test_a_cost_that_is_not_finite_stops_or_drops_the_episode():
    env_id = "TrpoTest/TollPoisoned-v0"
    with pytest.raises(NonFiniteTransitionError, match=r"`costs`.*at step 2"):
        collect(make_vector_environment(env_id, 2, seed=0))
    env = make_vector_environment(env_id, 2, seed=0)
    collector, rollout = collect(env, on_bad_data="drop")
    assert rollout.dropped_steps > 10
    assert np.isfinite(rollout.costs.costs).all()
    assert np.isfinite(collector.get_state()["episode_cost"]).all()


def test_an_open_episode_keeps_its_cost_when_it_is_restored():
    whole, rollout = collect(vector(AutoresetMode.SAME_STEP))
    env = vector(AutoresetMode.SAME_STEP)
    half = RolloutCollector(env, costs=True)
    half.collect(CostAgent(), 11)
    assert half.get_state()["episode_cost"].max() > 0.0
    again = RolloutCollector(vector(AutoresetMode.SAME_STEP), costs=True)
    assert again.set_state(half.get_state()) == ()
    agent = CostAgent()
    agent.calls = 11
    rest = again.collect(agent, STEPS - 11)
    np.testing.assert_array_equal(rollout.costs.costs[11:], rest.costs.costs)
    early = len(rollout.episodes) - len(rest.episodes)
    assert rollout.episodes[early:] == rest.episodes
    np.testing.assert_array_equal(
        whole.get_state()["episode_cost"], again.get_state()["episode_cost"]
    )


def test_whole_numbers_of_one_environment_do_not_round_another():
    class Fraction(gymnasium.Wrapper):
        def step(self, action):
            *step, _ = self.env.step(action)
            return *step, {"cost": 0 if self.cheap else 0.5}

    envs = []
    for cheap in (True, False):
        env = Fraction(make_environment(ENV_ID, seed=0))
        env.cheap = cheap
        envs.append(env)
    rollout = collect(LeanVectorEnv([lambda env=env: env for env in envs]))[1]
    np.testing.assert_array_equal(rollout.costs.costs[:, 0], 0.0)
    np.testing.assert_array_equal(rollout.costs.costs[:, 1], 0.5)
