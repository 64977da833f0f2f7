"""Whole sequences of B environments over T steps, as a recurrent network takes them.

A recurrent network carries a hidden state from step to step of an episode. Its update
runs it again over the rollout's steps in their order, from the states that the rollout
began with, and sets a state to zeros before each episode's first observation.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np


if TYPE_CHECKING:
    from trpo.data.types import Rollout


NONE, GRU, LSTM = "none", "gru", "lstm"


class CellKind(NamedTuple):
    """What the framework-free half has to know of a recurrent cell of `size` units.

    Attributes:
        gates: rows of its weights, in multiples of `size`.
        states: entries of its hidden state, likewise; the first `size` are its output.
    """

    gates: int
    states: int


CELLS = {GRU: CellKind(gates=3, states=1), LSTM: CellKind(gates=4, states=2)}


class Memory(NamedTuple):
    """Hidden states of B environments; zeros where an episode begins.

    Attributes:
        policy: [B, states] of the policy's cell.
        critic: [B, states] of the critic's cell.
    """

    policy: Any
    critic: Any

    def forget(self, starts: np.ndarray) -> "Memory":
        """The same with zeros where `starts` [B]; of NumPy arrays."""
        gone = np.asarray(starts, dtype=bool)[:, None]
        return Memory(*(np.where(gone, np.zeros_like(a), a) for a in self))

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of both under the names of a checkpoint."""
        return {f"{name}_memory": a.copy() for name, a in self._asdict().items()}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> "Memory | None":
        """What `get_state` named; None if it is not there."""
        names = [f"{name}_memory" for name in cls._fields]
        found = [np.array(state[name]) for name in names if name in state]
        return cls(*found) if len(found) == len(names) else None


class Sequences(NamedTuple):
    """What a recurrent network sees of a batch, as the backend's arrays.

    In `trpo.data.types.Batch` it stands for `obs`, while `returns` stay [T, B, 1].

    Attributes:
        obs: [T, B, obs_dim] observations, normalised if at all.
        starts: [T, B, 1] 1 where the hidden state is set to zeros before the step.
        valid: [T, B, 1] 0 where an entry is no sample, else 1.
        rows: [N] whole numbers t * B + b of the samples, in the order of the batch's
            other fields; None where all T * B entries are samples.
        memory: hidden states before the first step; constants of the update.
    """

    obs: Any
    starts: Any
    valid: Any
    rows: Any
    memory: Memory


class SequenceBatch(NamedTuple):
    """Samples of one update of a recurrent agent: B environments over T steps.

    Attributes:
        obs: [T, B, obs_dim] observations.
        actions: [T, B, act_dim] actions as sampled, before clipping to the bounds.
        log_probs: [T, B] log-probability of each action when it was taken, nats.
        returns: [T, B] regression targets of the critic.
        advantages: [T, B] advantage estimates, normalised if at all by the loop.
        starts: [T, B] True where the observation is the first of an episode.
        memory: hidden states with which the first step was acted on; None for zeros.
        valid: [T, B] False where the entry is no transition and is left out of every
            mean; None where all are.
        action_mask: [T, B, options] as in `trpo.data.types.Batch`, or None.
    """

    obs: Any
    actions: Any
    log_probs: Any
    returns: Any
    advantages: Any
    starts: Any
    memory: Memory | None = None
    valid: Any = None
    action_mask: Any = None


def sequences_of(
    rollout: "Rollout", returns: np.ndarray, advantages: np.ndarray
) -> SequenceBatch:
    """The batch of a recurrent agent from its rollout; [T, B], not flattened."""
    return SequenceBatch(
        obs=rollout.obs,
        actions=rollout.actions,
        log_probs=rollout.log_probs,
        returns=returns,
        advantages=advantages,
        starts=rollout.starts,
        memory=rollout.memory,
        valid=rollout.valid,
        action_mask=rollout.action_masks,
    )
