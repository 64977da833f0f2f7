"""Environments that nobody without a memory can solve, registered under TrpoTest/…"""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete


class Recall(gymnasium.Env):
    """The first observation shows a cue, -1 or 1; the last action has to name it.

    Reward 1 if it does, else -1, and the end; no other action matters. Observations are
    (cue, 0), then (0, 0) and at last (0, 1): all but the first are the same for either
    cue. So a policy that sees the present alone names the cue with a probability p that
    is the same for both, and its expected return is 1/2 (2 p - 1) + 1/2 (1 - 2 p) = 0,
    whatever it has learned; one that remembers gets 1.

    Args:
        length: Steps of an episode, at least 2.
        menu: Actions are a pair, the answer and one of 3 that must not be taken: the
            mask in the infos leaves out another one in turn.
    """

    observation_space = Box(-1.0, 1.0, (2,), np.float32)
    best_return, chance_return = 1.0, 0.0

    def __init__(self, length, menu=False):
        self.length, self.menu = length, menu
        self.action_space = MultiDiscrete([2, 3]) if menu else Discrete(2)

    def _answer(self):
        cue = self.cue if self.count == 0 else 0.0
        last = float(self.count == self.length - 1)
        obs = np.array([cue, last], dtype=np.float32)
        if not self.menu:
            return obs, {}
        mask = np.ones(5, dtype=np.int8)
        mask[2 + self.count % 3] = 0
        return obs, {"action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue = 1.0 if self.np_random.random() < 0.5 else -1.0
        self.count = 0
        return self._answer()

    def step(self, action):
        if self.menu:
            answer, taken = action
            assert taken != self.count % 3, "forbidden"
        else:
            answer = action
        over = self.count == self.length - 1
        reward = float(2 * answer - 1) * self.cue if over else 0.0
        self.count += 1
        return *self._answer()[:1], reward, over, False, self._answer()[1]


class Fading(gymnasium.Env):
    """The cue again, then nothing but a reward of cue each step, until it is cut off.

    Episodes of 2 to 5 steps, by their seed, are all truncated: what their final
    observation is worth is known from the first alone.
    """

    observation_space = Box(-1.0, 1.0, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue = float(self.np_random.uniform(-1.0, 1.0))
        self.length = 2 + int(self.np_random.integers(4))
        self.count = 0
        return np.array([self.cue, 1.0], dtype=np.float32), {}

    def step(self, action):
        self.count += 1
        obs = np.array([0.0, 0.1 * self.count], dtype=np.float32)
        return obs, self.cue, False, self.count >= self.length, {}


def register():
    """Register the environments once."""
    for name, (environment, kwargs) in {
        "Recall-v0": (Recall, {"length": 4}),
        "RecallMenu-v0": (Recall, {"length": 4, "menu": True}),
        "RecallLong-v0": (Recall, {"length": 20}),
        "Fading-v0": (Fading, {}),
    }.items():
        env_id = f"TrpoTest/{name}"
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id, environment, kwargs=kwargs, disable_env_checker=True
            )


register()
