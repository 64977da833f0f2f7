"""A functional environment stepped from the host, on random words that are given.

Written from Gymnasium's interfaces alone, one environment after the other, so that it
shares nothing with `trpo_jax.loop.environment` but the environment itself.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


class FunctionalVectorEnv(VectorEnv):
    """B environments that reset in the same step, in float64.

    Args:
        func_env: The environment's pure functions.
        max_episode_steps: Steps after which an episode is cut off.
        first_keys: [B, 2] random words of the first initial states.
        steps: For each step, random words [B, 2] of the transition and of the episode
            that starts after it.
    """

    def __init__(
        self,
        func_env: FuncEnv,
        max_episode_steps: int,
        first_keys: np.ndarray,
        steps: Iterator[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        self.num_envs = len(first_keys)
        # Of what it returns: observations are taken in their space's numbers.
        shape = func_env.observation_space.shape
        space = Box(-np.inf, np.inf, shape, np.float64)
        self.single_observation_space: Any = space
        self.single_action_space: Any = func_env.action_space
        self.observation_space = batch_space(space, self.num_envs)
        self.action_space = batch_space(func_env.action_space, self.num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._functions, self._limit = func_env, max_episode_steps
        self._first_keys, self._steps = first_keys, steps

    def reset(self, *, seed=None, options=None):
        """Start all environments from the first keys."""
        self._states = [self._functions.initial(key) for key in self._first_keys]
        self._counts = [0] * self.num_envs
        return self._observe(range(self.num_envs), self._first_keys), {}

    def step(self, actions):
        """Step each environment; those that end start anew, their last observation
        in `infos["final_obs"]`."""
        transition_keys, reset_keys = next(self._steps)
        rewards = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, dtype=bool)
        for i, (action, key) in enumerate(zip(actions, transition_keys, strict=True)):
            before = self._states[i]
            after = self._functions.transition(before, action, key).astype(before.dtype)
            rewards[i] = float(self._functions.reward(before, action, after, key))
            terminated[i] = bool(self._functions.terminal(after, key))
            self._states[i] = after
            self._counts[i] += 1
        truncated = np.array(self._counts) >= self._limit
        obs = self._observe(range(self.num_envs), transition_keys)
        final_obs = np.full(self.num_envs, None)
        for i in np.flatnonzero(terminated | truncated):
            final_obs[i] = obs[i].copy()
            self._states[i] = self._functions.initial(reset_keys[i])
            self._counts[i] = 0
            obs[i] = self._observe([i], reset_keys)[0]
        return obs, rewards, terminated, truncated, {"final_obs": final_obs}

    def _observe(self, indices, keys) -> np.ndarray:
        observed = [
            self._functions.observation(self._states[i], keys[i]) for i in indices
        ]
        return np.array(observed, dtype=np.float64)
