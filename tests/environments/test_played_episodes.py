"""Episodes of an evaluation: each once, in as many environments as are allowed."""

import gymnasium
import numpy as np
import pytest

from tests.environments.test_contract import Odd
from tests.support.agents import agent_module, make_agent
from trpo.environments.make import make_vector_environment
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.evaluation import evaluate, filmed_environment
from trpo.runs import progress_bar


def agent():
    return agent_module("torch").TRPOAgent.for_spaces(
        Odd.observation_space, Odd.action_space, policy_layer_sizes=(3,),
        critic_layer_sizes=(3,),
    )  # fmt: skip


class Long(Odd):
    """One episode in ten is long."""

    steps, made, living = 0, 0, 0

    def __init__(self):
        super().__init__()
        Long.made += 1
        Long.living += 1

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        self.length = 70 if self.draw > 0.9 else 3 + int(self.draw * 9)
        return obs, info

    def step(self, action):
        Long.steps += 1
        obs, _, _, _, info = super().step(action)
        self.draw = min(self.draw, 0.5)
        return obs, self.draw, self.count >= self.length, False, info

    def close(self):
        Long.living -= 1


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_only_what_is_scored_is_played(num_envs):
    Long.steps = Long.made = 0
    result = evaluate(agent(), Long, episodes=20, seed=3, num_envs=num_envs)
    assert Long.steps == result.lengths.sum()
    assert Long.made == num_envs
    assert result.lengths.max() == 70
    # Each episode is one of its number, however many are played at a time.
    every = evaluate(agent(), Long, episodes=20, seed=3, num_envs=20)
    np.testing.assert_array_equal(result.lengths, every.lengths)
    np.testing.assert_allclose(result.returns, every.returns, rtol=1e-6)
    assert Long.living == 0


def test_one_environment_plays_all_and_stays_open():
    env = Long()
    before = Long.living
    with pytest.warns(UserWarning, match="had not ended after 5 steps"):
        result = evaluate(agent(), env, episodes=4, seed=1, max_steps=5)
    assert Long.living == before
    assert len(result.returns) == 4
    with pytest.warns(UserWarning, match="had not ended after 5 steps"):
        again = evaluate(agent(), Long, episodes=4, seed=1, max_steps=5)
    np.testing.assert_array_equal(result.lengths, again.lengths)
    assert result.under_way.any()
    np.testing.assert_array_equal(result.under_way, again.under_way)


def test_episodes_that_are_spoilt_are_counted_and_left_out():
    class Bad(Long):
        def reset(self, *, seed=None, options=None):
            obs, info = super().reset(seed=seed)
            self.bad = 0.3 < self.draw < 0.6
            if self.bad and self.draw < 0.4:
                obs[0] = np.nan
            return obs, info

        def step(self, action):
            bad = self.bad and self.count == 1
            obs, *rest = super().step(action)
            return np.full(2, np.nan, np.float32) if bad else obs, *rest

    whole = evaluate(agent(), Long, episodes=30, seed=3, num_envs=30)
    env = make_vector_environment(Long, 30, seed=0, episodes=30)
    env.close()
    with pytest.warns(UserWarning, match="of 30 episodes"):
        result = evaluate(
            agent(), Bad, episodes=30, seed=3, num_envs=4, on_bad_data="drop"
        )
    assert 3 < result.dropped < 20
    assert len(result.returns) == 30 - result.dropped
    assert set(result.lengths) <= set(whole.lengths)


LIVING = []


class Once(Odd):
    """Of which a process may have one, as of some emulators."""

    def __init__(self):
        super().__init__()
        if LIVING:
            raise RuntimeError("there may be one in a process")
        LIVING.append(self)

    def close(self):
        LIVING.remove(self)


def test_an_environment_that_may_exist_once_is_evaluated_as_it_is_trained():
    training = make_vector_environment(Once, 2, seed=0, vectorization="async")
    try:
        result = evaluate(
            agent(), Once, episodes=5, seed=0, num_envs=2, vectorization="async"
        )
    finally:
        training.close()
    here = evaluate(agent(), Once, episodes=5, seed=0, num_envs=1)
    np.testing.assert_array_equal(result.lengths, here.lengths)
    assert LIVING == []


class Draws(Odd):
    """Draws pictures, unless it is told not to."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode=None, picture=None):
        super().__init__()
        self.render_mode, self.picture = render_mode, picture

    def render(self):
        return self.picture


class Human(Draws):
    metadata = {"render_modes": ["human"]}  # noqa: RUF012

    def __init__(self, render_mode=None):
        super().__init__()


def fails(render_mode=None):
    raise RuntimeError("no display")


PICTURES = [
    (Draws, "got 'Draws' with None from render()"),
    (lambda render_mode: Draws(render_mode, "text"), "with 'text' from render()"),
    (lambda render_mode: Draws(render_mode, np.zeros(3)), "from render()"),
    (Human, "got 'Human' with modes ['human']"),
    (Odd, "unexpected keyword argument 'render_mode'"),
    (fails, "no display"),
]


@pytest.mark.parametrize(("maker", "message"), PICTURES)
def test_what_draws_no_pictures_is_not_filmed(maker, message):
    pytest.importorskip("moviepy")
    with pytest.raises(
        ValueError, match="`video`: expected an environment that"
    ) as said:
        filmed_environment(maker, 0, "video")
    assert message in str(said.value)


def test_a_rollout_tells_of_its_steps():
    collector = RolloutCollector(make_vector_environment(Odd, 3, seed=0))
    steps = []
    collector.on_step = steps.append
    collector.collect(agent(), 4)
    assert steps == [3, 6, 9, 12]


class Said:
    is_terminal = False

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)

    def bar(self, *_):
        return None


def test_a_long_rollout_and_a_long_evaluation_show_their_speed(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: now[0])
    said = Said()
    display = progress_bar.ProgressDisplay(said, 1000, 0)  # pyright: ignore
    evaluation = progress_bar.EvaluationDisplay(said, 9)  # pyright: ignore
    for steps in range(1, 41):
        now[0] += 1.0
        display.stepping(8 * steps)
        evaluation.show(2, steps, 50 * steps)
    rollouts = [line for line in said.lines if line.startswith("rollout")]
    assert rollouts == [
        f"rollout: {8 * n} steps so far, 8 steps/s" for n in (10, 20, 30, 40)
    ]
    assert said.lines[-1] == (
        "evaluation: 2 of 9 episodes have ended, others are at step 40, 50 steps/s"
    )


def test_an_episode_that_says_it_is_a_success_is_counted():
    class Solved(Odd):
        def step(self, action):
            obs, reward, ended, cut, _ = super().step(action)
            return obs, reward, ended, cut, {"is_success": ended and self.draw > 0.5}

    rollout = RolloutCollector(make_vector_environment(Solved, 3, seed=0)).collect(
        agent(), 40
    )
    told = [episode.success for episode in rollout.episodes]
    draws = rollout.obs[..., 0][rollout.terminated]
    assert told == list(map(float, draws > 0.5))
    assert set(told) == {0.0, 1.0}
    vector = gymnasium.vector.SyncVectorEnv([Solved] * 3)
    other = RolloutCollector(vector).collect(agent(), 40)
    draws = other.obs[..., 0][other.terminated]
    assert [e.success for e in other.episodes] == list(map(float, draws > 0.5))
    plain = RolloutCollector(make_vector_environment(Odd, 3, seed=0))
    assert {e.success for e in plain.collect(agent(), 40).episodes} == {None}


def test_an_environment_of_other_actions_is_refused():
    agent = make_agent("torch", obs_dim=2, act_dim=1)
    for space in (gymnasium.spaces.Discrete(3), gymnasium.spaces.Box(-1.0, 1.0, (2,))):
        env = Odd()
        env.action_space = space
        with pytest.raises(ValueError, match="`env`: expected actions as the agent's"):
            evaluate(agent, env, episodes=1)
    assert evaluate(agent, Odd(), episodes=1).lengths[0] > 0
