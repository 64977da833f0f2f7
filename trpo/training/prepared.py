"""What a rollout becomes for an update."""

from typing import Any, NamedTuple

import numpy as np

from trpo.data.constrained_types import ConstrainedBatch
from trpo.data.sequences import SequenceBatch, sequences_of
from trpo.data.types import Batch, Rollout


class Prepared(NamedTuple):
    """What a rollout becomes.

    Attributes:
        batch: for the update; flattened, or [T, B] for an agent with a memory.
        advantage_std: standard deviation of advantages before they are normalised, in
            units of scaled returns.
    """

    batch: Batch | SequenceBatch | ConstrainedBatch
    advantage_std: float


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
    if rollout.memory is not None:
        advantages[rollout.valid] = samples
        return sequences_of(rollout, returns, advantages)
    masks = rollout.action_masks
    return Batch(
        obs=rollout.obs[rollout.valid],
        actions=rollout.actions[rollout.valid],
        log_probs=rollout.log_probs[rollout.valid],
        returns=returns[rollout.valid],
        advantages=samples,
        action_mask=None if masks is None else masks[rollout.valid],
    )
