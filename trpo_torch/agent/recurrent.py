"""`RecurrentTRPOAgent` in PyTorch: an agent whose networks remember."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo.agent.backend import Backend
from trpo.agent.recurrent import RecurrentAgentBase
from trpo.agent.sharding import Sharding, Shards
from trpo.config.agent import StepNumbers
from trpo.data.batch import Batch
from trpo.data.hidden_state import Memory
from trpo_torch.agent.agent import StateDict, TRPOBackend
from trpo_torch.critic.fit import ValueFit
from trpo_torch.critic.fit_sequences import fit_recurrent_critic
from trpo_torch.devices.device import matmul_precision
from trpo_torch.distributions import Distribution
from trpo_torch.fast.products import few_threads
from trpo_torch.networks.recurrent import (
    RecurrentCritic,
    RecurrentPolicy,
    RecurrentPolicyFunction,
)
from trpo_torch.policy_step.fisher import PolicyFunction


class RecurrentBackend(TRPOBackend):
    """`TRPOBackend` of networks that remember."""

    policy: RecurrentPolicy
    critic: RecurrentCritic

    def _build_policy(self, weights: dict[str, np.ndarray]) -> nn.Module:
        config = self.config
        cell = (self.obs_dim, config.recurrent, config.recurrent_size)
        policy = RecurrentPolicy(*cell, config.policy_layer_sizes, self.head)
        return self._loaded(policy, weights, "policy.")

    def _build_critic(self, weights: dict[str, np.ndarray]) -> nn.Module:
        config = self.config
        cell = (self.obs_dim, config.recurrent, config.recurrent_size)
        critic = RecurrentCritic(*cell, config.critic_layer_sizes)
        return self._loaded(critic, weights, "value.")

    @few_threads
    @torch.no_grad()
    def forward(
        self,
        obs: Any,
        noise: np.ndarray | None,
        mask: Tensor | None = None,
        memory: Any = None,
    ) -> tuple[Tensor, Tensor, Tensor, Memory]:
        obs = self.to_native(obs)
        with matmul_precision(self.config.matmul_precision):
            distribution, policy_state = self.policy(obs, memory.policy, mask)
            value, critic_state = self.critic(obs, memory.critic)
        if noise is None:
            action = distribution.mode()
        else:
            action = distribution.sample(self.to_native(noise))
        log_prob = distribution.log_prob(action)
        return action, log_prob, value, Memory(policy_state, critic_state)

    @few_threads
    @torch.no_grad()
    def value(self, obs: Any, memory: Any = None) -> Tensor:
        with matmul_precision(self.config.matmul_precision):
            return self.critic(self.to_native(obs), memory.critic)[0]

    def _distribution(self, obs: Any) -> Distribution:
        theta = torch.cat([p.reshape(-1) for p in self.policy.parameters()])
        return RecurrentPolicyFunction(self.policy, obs)(theta)

    def _policy_function(self, batch: Batch) -> PolicyFunction:
        return RecurrentPolicyFunction(self.policy, batch.obs, batch.action_mask)

    def _divided(
        self, sharding: Sharding, shards: Shards, batch: Batch, orders: np.ndarray
    ) -> tuple[Any, int]:
        samples = self.to_numpy(batch.obs.valid.sum((0, 2)))
        part = sharding.minibatches_of_environments(shards, orders, samples)
        return part, int(part.samples.sum())

    def _fit_critic(
        self,
        critic: Any,
        optimizer: torch.optim.Optimizer,
        batch: Batch,
        orders: Any,
        numbers: StepNumbers,
    ) -> ValueFit:
        options = self.config.step_options()
        return fit_recurrent_critic(critic, optimizer, batch, orders, options, numbers)


class RecurrentTRPOAgent(StateDict, RecurrentAgentBase):
    """Trust-region policy optimisation of recurrent networks.

    Arguments and methods are those of `trpo.agent.recurrent.RecurrentAgentBase`, the
    same in both backends.
    """

    backend_type: type[Backend] = RecurrentBackend
