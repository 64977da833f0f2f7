"""An agent that acts in a vector of environments, with its memory if it has one."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from trpo.agent.host_policy import HostPolicy
from trpo.data.hidden_state import Memory


class Actor:
    """An agent that acts on the present observation alone.

    Its policy acts; what else an update needs is computed once for a whole rollout.

    Args:
        agent: Either backend's.
    """

    memory: Memory | None = None
    """Hidden states after the last action; None of an agent without any."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    def act(
        self,
        obs: np.ndarray,
        starts: np.ndarray,
        mask: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> np.ndarray:
        """Actions [B, act_dim].

        Args:
            obs: [B, obs_dim] observations.
            starts: [B] True where the observation is the first of an episode.
            mask: [B, options] of actions, or None.
            deterministic: Take the most likely actions.
        """
        return self.agent.sample_actions(obs, deterministic, mask)

    def evaluated(
        self, obs: np.ndarray, actions: np.ndarray, masks: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities and values, [T, B] each, of a rollout that this has made.

        Args:
            obs: [T, B, obs_dim].
            actions: [T, B, act_dim].
            masks: [T, B, options], or None.
        """
        shape = obs.shape[:2]
        flat = (
            None if array is None else array.reshape(-1, *array.shape[2:])
            for array in (obs, actions, masks)
        )
        log_probs, values = self.agent.evaluate_actions(*flat)
        return log_probs.reshape(shape), values.reshape(shape)

    def value(self, obs: np.ndarray) -> np.ndarray:
        """Value [B, 1] of the observations that the last actions led to."""
        return self.agent.value(obs)


class HostActor(Actor):
    """An agent whose policy acts in NumPy, as it is when this is made.

    Args:
        agent: Either backend's.
        policy: Its own.
        noises: [B, act_dim] of each step.
    """

    def __init__(
        self, agent: Any, policy: HostPolicy, noises: Iterator[np.ndarray]
    ) -> None:
        super().__init__(agent)
        self._policy, self._noises = policy, noises

    def act(
        self,
        obs: np.ndarray,
        starts: np.ndarray,
        mask: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> np.ndarray:
        """See `Actor`; observations and masks are not looked at once more."""
        noise = None if deterministic else next(self._noises)
        return self._policy.act(obs, noise, mask)


class RecurrentActor(Actor):
    """An agent whose hidden states are carried from each action to the next.

    Args:
        agent: Either backend's recurrent agent.
        memory: Hidden states to begin with.
        recorded: Whether `evaluated` will be asked.
    """

    memory: Memory

    def __init__(self, agent: Any, memory: Memory, recorded: bool) -> None:
        super().__init__(agent)
        self.memory, self._recorded = memory, recorded
        self._said: list[tuple[np.ndarray, np.ndarray]] = []

    def act(
        self,
        obs: np.ndarray,
        starts: np.ndarray,
        mask: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> np.ndarray:
        """See `Actor`; episodes that start have nothing to remember."""
        actions, log_probs, values, self.memory = self.agent.act(
            obs, deterministic, mask, self.memory.forget(starts)
        )
        if self._recorded:
            self._said.append((log_probs[:, 0], values[:, 0]))
        return actions

    def evaluated(self, *_: Any) -> tuple[np.ndarray, np.ndarray]:
        """See `Actor`; as it was when this acted, of what it remembered."""
        log_probs, values = map(np.stack, zip(*self._said, strict=True))
        return log_probs, values

    def value(self, obs: np.ndarray) -> np.ndarray:
        """See `Actor`; also of an episode's final observation, before it is forgotten.

        What an episode that was cut off is worth depends on what it has shown.
        """
        return self.agent.value(obs, self.memory)


def actor_of(
    agent: Any, num_envs: int, memory: Memory | None = None, steps: int = 0
) -> Actor:
    """The actor of `agent` as it is now in `num_envs` environments.

    Args:
        agent: Either backend's, recurrent or not.
        num_envs: Environments.
        memory: Hidden states to go on from; by default zeros.
        steps: Of a rollout that is learned from, so that `evaluated` is asked; 0 if
            none is.
    """
    initial_memory = getattr(agent, "initial_memory", None)
    if initial_memory is not None:
        return RecurrentActor(agent, memory or initial_memory(num_envs), steps > 0)
    policy = agent.host_policy(num_envs)
    if policy is None:
        return Actor(agent)
    draws = range(steps) if steps else itertools.count()
    noises = (agent.draw_noise(num_envs) for _ in draws)
    # At once, which takes less time than between the steps of environments.
    return HostActor(agent, policy, iter(list(noises)) if steps else noises)
