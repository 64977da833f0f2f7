"""Batches of samples for one update.

A recurrent network carries a hidden state from step to step of an episode. Its update
runs it again over the rollout's steps in their order, from the states that the rollout
began with, and sets a state to zeros before each episode's first observation.
"""

import functools
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from trpo.data.hidden_state import Memory
from trpo.data.rollout import Rollout


class Batch(NamedTuple):
    """Samples of one update; N samples in any order.

    Attributes:
        obs: [N, obs_dim] observations; of a recurrent agent
            `trpo.data.batch.Sequences`.
        actions: [N, act_dim] actions as sampled, before clipping to the bounds.
        log_probs: [N, 1] log-probability of each action when it was taken, nats.
        returns: [N, 1] regression targets of the critic; [T, B, 1] of a recurrent one.
        advantages: [N, 1] advantage estimates, normalised if at all by the loop.
        action_mask: [N, options] 1 where an option could be taken, else 0, in the
            order of `trpo.spaces.action_heads.Head.options`; None where nothing was
            forbidden.
        weights: [N, 1] of each sample in every mean, 0 where a row only fills the
            batch up; None where all count alike. JAX's sharded updates have them.
    """

    obs: Any
    actions: Any
    log_probs: Any
    returns: Any
    advantages: Any
    action_mask: Any = None
    weights: Any = None

    @property
    def samples(self) -> "Batch":
        """All of it, as `ConstrainedBatch.samples`."""
        return self


def thinned(batch: Batch, every: int) -> Batch:
    """Every k-th sample of a batch, the first one included."""
    return Batch(*(None if field is None else field[::every] for field in batch))


class Costs(NamedTuple):
    """Costs of the N samples of a constrained update.

    Attributes:
        advantages: [N, 1] cost advantages, in units of scaled cost; centred, if at
            all, by the loop, but never divided: `excess` has the same units.
        returns: [N, 1] regression targets of the cost critic.
        excess: [] mean cost of a step beyond what the limit allows it, in the same
            units; below 0 where the limit is kept, -inf where there is none.
    """

    advantages: Any
    returns: Any
    excess: Any


class ConstrainedBatch(NamedTuple):
    """Samples of one constrained update: the fields of a `Batch`, and of `Costs`."""

    obs: Any
    actions: Any
    log_probs: Any
    returns: Any
    advantages: Any
    cost_advantages: Any
    cost_returns: Any
    cost_excess: Any
    action_mask: Any = None
    weights: Any = None

    @classmethod
    def of(cls, samples: Batch, costs: Costs) -> "ConstrainedBatch":
        """The two put together."""
        fields = samples._asdict()
        named = {f"cost_{name}": field for name, field in costs._asdict().items()}
        return cls(**fields, **named)

    @property
    def samples(self) -> Batch:
        """All but the costs."""
        return Batch(*self[:5], action_mask=self.action_mask, weights=self.weights)

    @property
    def costs(self) -> Costs:
        """The costs alone."""
        return Costs(*self[5:8])


class Sequences(NamedTuple):
    """Observations of a batch as a recurrent network takes them, in native arrays.

    In `trpo.data.batch.Batch` it stands for `obs`, while `returns` stay [T, B, 1].

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
        action_mask: [T, B, options] as in `trpo.data.batch.Batch`, or None.
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


AnyBatch: TypeAlias = Batch | ConstrainedBatch | SequenceBatch
"""Of the kind that an agent takes."""


def batch_of(
    rollout: Rollout, returns: np.ndarray, advantages: np.ndarray, samples: np.ndarray
) -> Any:
    """The batch of a rollout's valid steps.

    Args:
        rollout: The steps.
        returns: [T, B].
        advantages: [T, B]; written to for an agent with a memory.
        samples: [N] advantages of the valid steps, as the update is to see them.
    """
    columns = (rollout.obs, rollout.actions, rollout.log_probs, returns)
    masks, valid = rollout.action_masks, rollout.valid
    if rollout.memory is not None:
        advantages[valid] = samples
        memory = (rollout.starts, rollout.memory, valid)
        return SequenceBatch(*columns, advantages, *memory, masks)
    rows = functools.partial(valid_rows, valid)
    masks = None if masks is None else rows(masks)
    return Batch(*map(rows, columns), advantages=samples, action_mask=masks)


def valid_rows(valid: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Rows [N, …] of an array [T, B, …] where `valid` [T, B]; no copy if all are."""
    flat = array.reshape(-1, *array.shape[2:])
    return flat if valid.all() else flat[valid.reshape(-1)]
