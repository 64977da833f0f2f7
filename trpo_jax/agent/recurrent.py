"""`RecurrentTRPOAgent` in JAX: an agent whose networks remember."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from trpo.agent.backend import Backend
from trpo.agent.recurrent import RecurrentAgentBase
from trpo.data.batch import Sequences
from trpo.data.hidden_state import Memory
from trpo.spaces.action_heads import Head
from trpo_jax.agent import state
from trpo_jax.agent.agent import TRPOBackend
from trpo_jax.critic.fit import ValueFit
from trpo_jax.critic.fit_sequences import fit_recurrent_critic
from trpo_jax.devices.device import matmul_precision
from trpo_jax.distributions import Distribution
from trpo_jax.networks.feedforward import Parameters
from trpo_jax.networks.recurrent import (
    recurrent_critic_function,
    recurrent_policy_function,
)
from trpo_jax.policy_step.step import PolicyStep, policy_step


class RecurrentFunctions(NamedTuple):
    """The networks as pure functions, hashed by identity, so cheap to jit on."""

    policy: Callable[..., tuple[Distribution, jax.Array]]
    critic: Callable[[Parameters, Sequences], tuple[jax.Array, jax.Array]]
    head: Head
    improve: Callable[..., PolicyStep] = policy_step
    mesh: Mesh | None = None

    def policy_at(
        self,
        unravel: Callable[[jax.Array], Parameters],
        sequences: Sequences,
        mask: jax.Array | None,
        _rows: int | None = None,
    ) -> Callable[[jax.Array], Distribution]:
        """The policy as a function of its flat parameters [p], at these samples."""
        return lambda theta: self.policy(unravel(theta), sequences, mask)[0]

    def fit_critic(
        self, _policy: Parameters, *arguments: Any, **options: Any
    ) -> tuple[Parameters, Any, ValueFit]:
        """Fit the critic, which shares nothing with the policy."""
        return fit_recurrent_critic(self.critic, *arguments, **options)


class RecurrentBackend(TRPOBackend):
    """`TRPOBackend` of networks that remember."""

    def _networks(
        self, weights: dict[str, np.ndarray]
    ) -> tuple[RecurrentFunctions, Parameters, Parameters]:
        config, head = self.config, self.head
        cell = (self.obs_dim, config.recurrent, config.recurrent_size)
        functions = RecurrentFunctions(
            recurrent_policy_function(*cell, config.policy_layer_sizes, head),
            recurrent_critic_function(*cell, config.critic_layer_sizes),
            head,
        )
        trees = (state.load_network(weights, name) for name in ("policy.", "value."))
        return functions, *trees

    def forward(
        self,
        obs: Any,
        noise: np.ndarray | None,
        mask: Any = None,
        memory: Any = None,
    ) -> tuple[jax.Array, jax.Array, jax.Array, Memory]:
        return act(
            self.functions,
            self.config.matmul_precision,
            self.state.policy,
            self.state.critic,
            self._here(obs),
            memory,
            noise,
            mask,
        )

    def value(self, obs: Any, memory: Any = None) -> jax.Array:
        return value(
            self.functions,
            self.config.matmul_precision,
            self.state.critic,
            self._here(obs),
            memory,
        )

    def _distribution(self, obs: Any) -> Distribution:
        return self.functions.policy(self.state.policy, obs)[0]


class RecurrentTRPOAgent(RecurrentAgentBase):
    """Trust-region policy optimisation of recurrent networks.

    Arguments and methods are those of `trpo.agent.recurrent.RecurrentAgentBase`, the
    same in both backends.
    """

    backend: RecurrentBackend
    backend_type: type[Backend] = RecurrentBackend


@functools.partial(jax.jit, static_argnums=(0, 1))
def act(
    functions: RecurrentFunctions,
    precision: str,
    policy: Parameters,
    critic: Parameters,
    obs: jax.Array,
    memory: Memory,
    noise: jax.Array | None,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, Memory]:
    """Action [B, act_dim], log-probability [B, 1], value [B, 1] and new states."""
    one = _one_step(obs, memory)
    with matmul_precision(precision):
        distribution, policy_state = functions.policy(policy, one, mask)
        values, critic_state = functions.critic(critic, one)
    action = distribution.mode() if noise is None else distribution.sample(noise)
    log_prob = distribution.log_prob(action)
    return action, log_prob, values[0], Memory(policy_state, critic_state)


@functools.partial(jax.jit, static_argnums=(0, 1))
def value(
    functions: RecurrentFunctions,
    precision: str,
    critic: Parameters,
    obs: jax.Array,
    memory: Memory,
) -> jax.Array:
    """The critic's value [B, 1], compiled."""
    with matmul_precision(precision):
        return functions.critic(critic, _one_step(obs, memory))[0][0]


def _one_step(obs: jax.Array, memory: Memory) -> Sequences:
    """One observation of each environment, going on from `memory`."""
    ones = jnp.ones((1, len(obs), 1), obs.dtype)
    return Sequences(obs[None], 0.0 * ones, ones, None, memory)
