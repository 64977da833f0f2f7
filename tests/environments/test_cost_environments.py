"""The example's environments with costs."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from examples.cost_environments import ENV_ID, LIMITS, STEPS
from trpo.environments.make import make_environment


def play(policy, seed=0):
    """Return, cost and positions [100, 2] of one episode."""
    env = gymnasium.make(ENV_ID)
    obs, _ = env.reset(seed=seed)
    total, cost, path, ended = 0.0, 0.0, [], False
    while not ended:
        obs, reward, terminated, ended, info = env.step(policy(obs))
        assert not terminated
        total, cost = total + reward, cost + info["cost"]
        path.append(obs[:2])
    assert len(path) == STEPS
    return total, cost, np.array(path)


def circling(radius):
    """Round the circle by a spring towards it, and a push along it."""

    def policy(obs):
        x, y, v_x, v_y = map(float, obs)
        r = max(np.hypot(x, y), 1e-6)
        out, along = np.array([x, y]) / r, np.array([-y, x]) / r
        speed = np.array([v_x, v_y])
        pull = 3.0 * (radius - r) - 2.0 * speed @ out - (speed @ along) ** 2 / (3 * r)
        return np.clip(0.8 * along + pull * out, -1.0, 1.0).astype(np.float32)

    return policy


def test_it_keeps_gymnasiums_rules():
    check_env(gymnasium.make(ENV_ID).unwrapped, skip_render_check=True)


def test_reward_and_cost_conflict():
    on, on_cost, _ = play(circling(1.0))
    inside, inside_cost, path = play(circling(0.4))
    still, still_cost, _ = play(lambda obs: np.zeros(2, np.float32))
    assert still == still_cost == 0.0
    assert inside_cost == 0.0
    assert np.abs(path).max() < 0.5
    assert on_cost > 40.0
    assert on > 5.0 * inside > 20.0


def test_a_step_is_what_the_docstring_says():
    env = gymnasium.make(ENV_ID).unwrapped
    env.reset(seed=3)
    env._state = (0.6, -0.8, 0.5, 1.0)
    # Forces beyond their bounds are cut off there.
    obs, reward, _, _, info = env.step(np.array([5.0, -0.5], np.float32))
    v = (0.5 + 0.1 * (3.0 - 0.5), 1.0 + 0.1 * (-1.5 - 1.0))
    x, y = 0.6 + 0.1 * v[0], -0.8 + 0.1 * v[1]
    np.testing.assert_allclose(obs, np.float32([x, y, *v]))
    off = abs(np.hypot(x, y) - 1.0)
    assert reward == pytest.approx((v[1] * x - v[0] * y) / (1.0 + 5.0 * off))
    assert info == {"cost": 1.0}
    env._state = (-0.5, 0.0, -0.1, 0.0)
    assert env.step(np.zeros(2))[4] == {"cost": 1.0}
    env._state = (-0.45, 0.0, -0.1, 0.0)
    assert env.step(np.zeros(2))[4] == {"cost": 0.0}


def test_runners_have_a_speed_limit():
    env_id = "trpo/HopperVelocity-v0"
    limit = LIMITS[env_id][1]
    env = make_environment(env_id, seed=0)
    env.reset(seed=0)
    found = [env.step(np.ones(3, np.float32))[4] for _ in range(12)]
    env.close()
    # It falls forward, slowly at first.
    assert [info["cost"] for info in found] == [0.0] * 8 + [1.0] * 4
    assert [info["x_velocity"] > limit for info in found] == [False] * 8 + [True] * 4
    assert gymnasium.make(env_id).spec.id == env_id
