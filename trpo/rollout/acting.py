"""An agent that acts in a vector of environments, with its memory if it has one."""

from typing import Any

import numpy as np

from trpo.data.hidden_state import Memory


class Actor:
    """An agent that acts on the present observation alone.

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
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Action [B, act_dim], log-probability [B, 1] and value [B, 1].

        Args:
            obs: [B, obs_dim] observations.
            starts: [B] True where the observation is the first of an episode.
            mask: [B, options] of actions, or None.
            deterministic: Take the most likely actions.
        """
        if mask is None:
            return self.agent.act(obs, deterministic=deterministic)
        return self.agent.act(obs, deterministic=deterministic, action_mask=mask)

    def value(self, obs: np.ndarray) -> np.ndarray:
        """Value [B, 1] of the observations that the last actions led to."""
        return self.agent.value(obs)


class RecurrentActor(Actor):
    """An agent whose hidden states are carried from each action to the next.

    Args:
        agent: Either backend's recurrent agent.
        memory: Hidden states to begin with.
    """

    memory: Memory

    def __init__(self, agent: Any, memory: Memory) -> None:
        super().__init__(agent)
        self.memory = memory

    def act(
        self,
        obs: np.ndarray,
        starts: np.ndarray,
        mask: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `Actor`; episodes that start have nothing to remember."""
        *answer, self.memory = self.agent.act(
            obs, deterministic, mask, self.memory.forget(starts)
        )
        return answer[0], answer[1], answer[2]

    def value(self, obs: np.ndarray) -> np.ndarray:
        """See `Actor`; also of an episode's final observation, before it is forgotten.

        What an episode that was cut off is worth depends on what it has shown.
        """
        return self.agent.value(obs, self.memory)


def actor_of(agent: Any, num_envs: int, memory: Memory | None = None) -> Actor:
    """The actor of `agent` in `num_envs` environments.

    Args:
        agent: Either backend's, recurrent or not.
        num_envs: Environments.
        memory: Hidden states to go on from; by default zeros.
    """
    initial_memory = getattr(agent, "initial_memory", None)
    if initial_memory is None:
        return Actor(agent)
    return RecurrentActor(agent, initial_memory(num_envs) if memory is None else memory)
