"""What one step of a vector of environments leaves, and what is wrong with it."""

from typing import NamedTuple

import numpy as np


STOP, DROP = "stop", "drop"
ON_BAD_DATA = (STOP, DROP)


class NonFiniteTransitionError(ValueError):
    """The environment returned a NaN or an infinity; nothing was learned from it."""


class Transition(NamedTuple):
    """What one step of the environment left; rows are environments.

    Attributes:
        obs: [B, obs_dim] observation to act on next.
        final_obs: [B, obs_dim] observation that the step led to; differs from `obs`
            where the environment has already started the next episode.
        rewards: [B] raw rewards.
        terminated: [B] the step led to a terminal state.
        truncated: [B] the episode was cut off after the step.
        valid: [B] False where the step was a reset (autoreset mode NEXT_STEP), was
            dropped, or its worker failed.
        dropped: [B] the episode is not to be learned from, as its data are not finite.
        restarted: [B] the environment failed and was replaced.
        costs: [B] what the step cost; None where costs are not read.
    """

    obs: np.ndarray
    final_obs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    dropped: np.ndarray
    restarted: np.ndarray
    costs: np.ndarray | None = None


def not_finite(step: Transition) -> np.ndarray:
    """[B] environments whose observations, reward or cost are not all finite."""
    finite = np.isfinite(step.rewards)
    if step.costs is not None:
        finite &= np.isfinite(step.costs)
    for array in (step.obs, step.final_obs):
        finite &= np.isfinite(array).all(axis=1)
    return ~finite


def require_finite(step: Transition, lengths: np.ndarray) -> None:
    """Raise NonFiniteTransitionError, with environment and step, if `not_finite`."""
    for name in ("obs", "final_obs", "rewards", "costs"):
        array = getattr(step, name)
        if array is not None and not np.isfinite(array).all():
            index = int(np.argwhere(~np.isfinite(array))[0][0])
            raise NonFiniteTransitionError(
                f"`{name}`: expected finite numbers, got {array[index]} from "
                f"environment {index} at step {lengths[index]} of its episode. Look "
                "for a division by zero or an unstable simulation there, or leave such "
                "episodes out by on_bad_data='drop'."
            )
