r"""Environments with costs: a point mass that circles, MuJoCo's runners at a limit.

    trpo train trpo/PointCircle-v0 --module examples/cost_environments.py \
        --num-envs 16 --rollout-steps 100 --cost-limit 20 --cost-standard-errors 2

Importing it registers them.
"""

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box


ENV_ID = "trpo/PointCircle-v0"
STEPS = 100
"""Steps of an episode, which nothing but this limit ends."""
TIME_STEP = 0.1
FORCE, DRAG = 3.0, 1.0
RADIUS = 1.0
SHARPNESS = 5.0
WALL = 0.5
START = 0.1
# Drag bounds the speed by FORCE / DRAG, and so the way of an episode.
FARTHEST = np.array([31.0, 31.0, 3.0, 3.0], dtype=np.float32)
LIMITS = {
    "trpo/HalfCheetahVelocity-v0": ("HalfCheetah-v5", 3.2096),
    "trpo/HopperVelocity-v0": ("Hopper-v5", 0.7402),
    "trpo/Walker2dVelocity-v0": ("Walker2d-v5", 2.3415),
}
"""Id -> the environment, and the speed in metres per second above which a step costs 1.

Half of what unconstrained agents reach, as in Safety-Gymnasium (Ji et al. 2023,
"Safety-Gymnasium: A Unified Safe Reinforcement Learning Benchmark").
"""


class PointCircle(gymnasium.Env):
    """Run round a circle counterclockwise, whose sides lie beyond two walls.

    The task "Circle" of Achiam et al. 2017, "Constrained Policy Optimization",
    appendix 10.3, with a point mass of its own: reward and cost conflict, as the best
    run leaves the corridor |x| <= 0.5 twice in each round.

    Observation: position x, y and velocity. Action: force along x and y, each in
    [-1, 1]. The velocity changes by 0.1 (3 force - velocity) in a step, the position
    by 0.1 times the velocity. Reward: v'(-y, x) / (1 + 5 |r - 1|), with r the distance
    from the centre. `info["cost"]`: 1 where |x| > 0.5, else 0. An episode begins at
    rest, at most 0.1 from the centre in each coordinate, and is cut off after 100
    steps.
    """

    observation_space = Box(-FARTHEST, FARTHEST, dtype=np.float32)
    action_space = Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """At rest near the centre."""
        super().reset(seed=seed)
        x, y = self.np_random.uniform(-START, START, 2).tolist()
        self._state = (x, y, 0.0, 0.0)
        return self._obs(), {}

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One tenth of a unit of time."""
        # Plain numbers: arrays of two take ten times as long.
        x, y, v_x, v_y = self._state
        f_x, f_y = (min(1.0, max(-1.0, float(force))) for force in action)
        v_x += TIME_STEP * (FORCE * f_x - DRAG * v_x)
        v_y += TIME_STEP * (FORCE * f_y - DRAG * v_y)
        x, y = x + TIME_STEP * v_x, y + TIME_STEP * v_y
        self._state = (x, y, v_x, v_y)
        off = abs(math.hypot(x, y) - RADIUS)
        reward = (v_y * x - v_x * y) / (1.0 + SHARPNESS * off)
        return self._obs(), reward, False, False, {"cost": float(abs(x) > WALL)}

    def _obs(self) -> np.ndarray:
        return np.array(self._state, dtype=np.float32)


class SpeedLimit(gymnasium.Wrapper):
    """Adds `info["cost"]`: 1 where the torso's forward speed exceeds the limit, else 0.

    Args:
        env: Environment whose infos have `x_velocity`.
        limit: Metres per second.
    """

    def __init__(self, env: gymnasium.Env, limit: float) -> None:
        super().__init__(env)
        self._limit = limit

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step of the environment, with its cost."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        cost = float(info["x_velocity"] > self._limit)
        return obs, reward, terminated, truncated, {**info, "cost": cost}


def make_speed_limited(base: str, limit: float, **options: Any) -> gymnasium.Env:
    """The environment of id `base` with a speed limit."""
    return SpeedLimit(gymnasium.make(base, **options), limit)


if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, PointCircle, max_episode_steps=STEPS)
    for env_id, (base, limit) in LIMITS.items():
        gymnasium.register(
            env_id, make_speed_limited, kwargs={"base": base, "limit": limit}
        )
