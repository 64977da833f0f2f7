"""Segments of a rollout: where each is cut off, and which are left out."""

import numpy as np

from trpo.data.rollout import Rollout


def following_values(rollout: Rollout, last_values: np.ndarray) -> np.ndarray:
    """V(s_{t+1}): the next row's value, or the final observation's where one ended."""
    following = np.concatenate([rollout.values[1:], last_values[None]])
    ended = rollout.terminated | rollout.truncated
    return np.where(ended, rollout.next_values, following)


def without_bad_segments(
    rollout: Rollout, dropped: np.ndarray, restarted: np.ndarray
) -> Rollout:
    """The rollout without dropped segments, cut off where an environment failed."""
    assert rollout.starts is not None
    truncated = rollout.truncated.copy()
    for t, i in np.argwhere(restarted & ~rollout.starts):
        if t:
            # The last step that was taken; where it led to was acted on at t, so that
            # its value is known.
            truncated[t - 1, i] = True
    valid = _without_segments(rollout.valid, rollout.starts, dropped)
    return rollout._replace(
        valid=valid,
        truncated=truncated,
        dropped_steps=int((rollout.valid & ~valid).sum() + dropped.sum()),
        restarts=int(restarted.sum()),
    )


def _without_segments(
    valid: np.ndarray, starts: np.ndarray, dropped: np.ndarray
) -> np.ndarray:
    """`valid` [T, B] without the episodes, as far as they are here, that were dropped.

    Args:
        valid: [T, B] entries that are transitions.
        starts: [T, B] entries that are the first of an episode.
        dropped: [T, B] entries that an episode was dropped at.
    """
    valid = valid.copy()
    for t, i in np.argwhere(dropped):
        begins = np.flatnonzero(starts[: t + 1, i])
        valid[(begins[-1] if begins.size else 0) : t + 1, i] = False
    return valid
