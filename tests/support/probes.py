"""Probe environments, whose values and best actions are known exactly.

Each isolates one thing that an agent must get right, in the order in which to debug:
a critic that fits, a discount, an action that is rewarded, one that depends on the
observation, and an episode that is cut off instead of ending. (After rejax's
`tests/environments.py` and Jones 2021, "Debugging reinforcement learning systems".)
"""

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Probe(gymnasium.Env):
    """One observation in [-1, 1], one action in [-1, 1]."""

    observation_space = Box(-1.0, 1.0, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._obs(), {}

    def _obs(self):
        return np.zeros(1, dtype=np.float32)


class ConstantReward(Probe):
    """Reward 1, and the end: V(0) = 1."""

    def step(self, action):
        return self._obs(), 1.0, True, False, {}


class TwoStep(Probe):
    """Reward 0, then 1, and the end: V(-1) = gamma, V(1) = 1."""

    def _obs(self):
        return np.full(1, -1.0 if self.count == 0 else 1.0, dtype=np.float32)

    def step(self, action):
        self.count += 1
        return self._obs(), float(self.count == 2), self.count == 2, False, {}


class BestAction(Probe):
    """Reward -(action - 0.5)^2: the best action is 0.5 = `BEST_ACTION`."""

    def step(self, action):
        reward = -((float(action[0]) - BEST_ACTION) ** 2)
        return self._obs(), reward, True, False, {}


class CopyObservation(Probe):
    """Reward -(action - observation)^2: the best action is the observation."""

    def _obs(self):
        return np.array([self.shown], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        # The wrapper gives each episode its seed, so each shows another number.
        self.shown = np.random.default_rng(seed).uniform(-1.0, 1.0)
        return super().reset(seed=seed)

    def step(self, action):
        reward = -((float(action[0]) - self.shown) ** 2)
        return self._obs(), reward, True, False, {}


class Truncation(Probe):
    """Reward 1 for ever, but cut off: V(1) = 1 / (1 - gamma), V(-1) = gamma V(1).

    The first observation is -1 and its reward 0; all others are 1. Half of the episodes
    are cut off after their first step, where the value of the final observation, 1,
    and that of the next episode's first, -1, differ: a bootstrap from either the wrong
    observation or none is seen.
    """

    def _obs(self):
        return np.full(1, -1.0 if self.count == 0 else 1.0, dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        self.length = 1 if np.random.default_rng(seed).random() < 0.5 else 4
        return super().reset(seed=seed)

    def step(self, action):
        self.count += 1
        return self._obs(), float(self.count > 1), False, self.count >= self.length, {}


BEST_ACTION = 0.5
PROBES = (ConstantReward, TwoStep, BestAction, CopyObservation, Truncation)


def register():
    """Register the probes once, as TrpoProbe/<class>-v0."""
    for probe in PROBES:
        env_id = f"TrpoProbe/{probe.__name__}-v0"
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, probe, disable_env_checker=True)


register()
