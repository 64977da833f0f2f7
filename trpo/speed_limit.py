"""MuJoCo's runners with a speed limit: what they are paid for costs above it."""

from typing import Any

import gymnasium


LIMITS = {
    "trpo/HalfCheetahVelocity-v0": ("HalfCheetah-v5", 3.2096),
    "trpo/HopperVelocity-v0": ("Hopper-v5", 0.7402),
    "trpo/Walker2dVelocity-v0": ("Walker2d-v5", 2.3415),
}
"""Id -> the environment, and the speed in metres per second above which a step costs 1.

Half of what unconstrained agents reach, as in Safety-Gymnasium (Ji et al. 2023,
"Safety-Gymnasium: A Unified Safe Reinforcement Learning Benchmark").
"""


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
    """The environment of id `base` with a speed limit; for `gymnasium.register`."""
    return SpeedLimit(gymnasium.make(base, **options), limit)
