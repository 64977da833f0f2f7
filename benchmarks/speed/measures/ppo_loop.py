"""PPO in one loop, as CleanRL's `ppo_continuous_action.py`: a peer to be timed.

Huang et al. 2022, "CleanRL: High-quality Single-file Implementations of Deep
Reinforcement Learning Algorithms". With this project's learning rate, epochs,
minibatches and layers, and without wrappers round the environment.
"""

import itertools
import time

import gymnasium
import numpy as np
import torch
from torch import nn

from benchmarks.speed.subjects import EPOCHS, MINIBATCH
from trpo.config.run import TRPOConfig


CLIP, GAMMA, LAMBDA, VALUE_WEIGHT, MAX_NORM = 0.2, 0.99, 0.95, 0.5, 0.5


def _network(inputs: int, outputs: int) -> nn.Sequential:
    sizes = [inputs, *TRPOConfig().policy_layer_sizes]
    layers: list[nn.Module] = []
    for size, following in itertools.pairwise(sizes):
        layers += [nn.Linear(size, following), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


class PPOLoop:
    """Rollouts of `steps` steps of `count` environments, each with an update."""

    def __init__(self, env_id: str, count: int, steps: int) -> None:
        makers = [lambda: gymnasium.make(env_id)] * count
        self._env = gymnasium.vector.SyncVectorEnv(makers)
        obs_shape = self._env.single_observation_space.shape
        act_shape = self._env.single_action_space.shape
        assert obs_shape
        assert act_shape
        self._actor = _network(obs_shape[0], act_shape[0])
        self._critic = _network(obs_shape[0], 1)
        self._log_std = nn.Parameter(torch.zeros(1, act_shape[0]))
        self._parameters = [
            *self._actor.parameters(), *self._critic.parameters(), self._log_std
        ]  # fmt: skip
        rate = TRPOConfig().value_lr
        self._optimizer = torch.optim.Adam(self._parameters, lr=rate, eps=1e-5)
        self._obs = torch.zeros(steps, count, *obs_shape)
        self._actions = torch.zeros(steps, count, *act_shape)
        self._log_probs, self._rewards, self._dones, self._values = torch.zeros(
            4, steps, count
        )
        self._next_obs = torch.Tensor(self._env.reset(seed=0)[0])
        self._next_done = torch.zeros(count)
        self._stepping = self._learning = 0.0

    def parts(self) -> tuple[float, float]:
        """Seconds stepping and learning."""
        return self._stepping, self._learning

    def _act(
        self, obs: torch.Tensor, action: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        mean = self._actor(obs)
        policy = torch.distributions.Normal(mean, self._log_std.expand_as(mean).exp())
        if action is None:
            action = policy.sample()
        log_prob, entropy = policy.log_prob(action).sum(1), policy.entropy().sum(1)
        return action, log_prob, entropy, self._critic(obs)

    def iterate(self) -> None:
        """One rollout, one update."""
        for t in range(len(self._obs)):
            self._obs[t], self._dones[t] = self._next_obs, self._next_done
            with torch.no_grad():
                action, log_prob, _, value = self._act(self._next_obs)
                self._values[t] = value.flatten()
            self._actions[t], self._log_probs[t] = action, log_prob
            start = time.perf_counter()
            obs, reward, ended, cut, _ = self._env.step(action.numpy())
            self._stepping += time.perf_counter() - start
            self._rewards[t] = torch.tensor(reward).view(-1)
            self._next_obs = torch.Tensor(obs)
            self._next_done = torch.Tensor(np.logical_or(ended, cut))
        start = time.perf_counter()
        self._update()
        self._learning += time.perf_counter() - start

    def _update(self) -> None:
        with torch.no_grad():
            following = self._critic(self._next_obs).flatten()
            advantages, last = torch.zeros_like(self._rewards), 0.0
            done = self._next_done
            for t in reversed(range(len(self._rewards))):
                delta = self._rewards[t] + GAMMA * following * (1.0 - done)
                last = delta - self._values[t] + GAMMA * LAMBDA * (1.0 - done) * last
                advantages[t] = last
                following, done = self._values[t], self._dones[t]
            returns = (advantages + self._values).reshape(-1)
        flat = [
            array.reshape(-1, *array.shape[2:])
            for array in (self._obs, self._actions, self._log_probs, advantages)
        ]
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(returns)).split(MINIBATCH):
                self._step(*(array[rows] for array in (*flat, returns)))

    def _step(
        self,
        obs: torch.Tensor,
        actions: torch.Tensor,
        log_probs: torch.Tensor,
        advantages: torch.Tensor,
        returns: torch.Tensor,
    ) -> None:
        _, new, _, values = self._act(obs, actions)
        ratio = (new - log_probs).exp()
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clipped = ratio.clamp(1.0 - CLIP, 1.0 + CLIP)
        of_policy = torch.max(-advantages * ratio, -advantages * clipped).mean()
        of_critic = 0.5 * ((values.flatten() - returns) ** 2).mean()
        self._optimizer.zero_grad()
        (of_policy + VALUE_WEIGHT * of_critic).backward()
        nn.utils.clip_grad_norm_(self._parameters, MAX_NORM)
        self._optimizer.step()
