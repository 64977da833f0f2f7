"""Tiny environments with known dynamics, registered under TrpoTest/…"""

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Counter(gymnasium.Env):
    """Observation (episode seed's draw, steps so far); ends after `length` steps.

    Episode lengths are 2 + draw * 5, and odd ones are cut off instead of terminated.
    """

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, reuse_buffer=False, poison_step=None):
        self._buffer = np.zeros(2) if reuse_buffer else None
        self._poison_step = poison_step

    def _obs(self):
        values = np.array([self.draw, float(self.count)])
        if self._buffer is None:
            return values
        self._buffer[:] = values
        return self._buffer

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.draw = float(self.np_random.random())
        self.length = 2 + int(self.draw * 5)
        self.count = 0
        return self._obs(), {}

    def step(self, action):
        assert abs(float(action[0])) <= 1.0, "action was not clipped"
        self.count += 1
        ended = self.count >= self.length
        odd = self.length % 2 == 1
        reward = self.draw + self.count + float(action[0])
        if self._poison_step == self.count:
            reward = float("nan")
        return self._obs(), reward, ended and not odd, ended and odd, {}


def register():
    """Register the environments once."""
    for name, kwargs in {
        "Counter-v0": {},
        "CounterReusedBuffer-v0": {"reuse_buffer": True},
        "CounterPoisoned-v0": {"poison_step": 2},
    }.items():
        env_id = f"TrpoTest/{name}"
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                Counter,
                kwargs=kwargs,
                disable_env_checker=True,
            )


register()
