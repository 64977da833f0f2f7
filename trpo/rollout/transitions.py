"""One step of a vector of environments, and checks of its numbers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from trpo.agent.batch_checks import LARGEST, is_within, largest_observation


FEW = 10_000
"""Numbers whose product with themselves NumPy's library computes in one thread."""
FINITE = float(np.finfo(np.float64).max)
"""The largest number that is no infinity."""


class NonFiniteTransitionError(ValueError):
    """The environment returned a NaN, an infinity or a number too large to square.

    Nothing was learned from it.
    """


class Limits(NamedTuple):
    """Largest absolute values of an environment's numbers, see `batch_checks.LARGEST`.

    Attributes:
        obs: of an entry of an observation.
        rewards: of a reward, or a cost.
    """

    obs: float
    rewards: float

    @classmethod
    def of(cls, dtype: str, normalized: bool) -> "Limits":
        """Limits of an agent, see `batch_checks.largest_observation`."""
        return cls(largest_observation(dtype, normalized), LARGEST[dtype])


class Transition(NamedTuple):
    """Result of one step; rows are environments.

    Attributes:
        obs: [B, obs_dim] observation to act on next.
        final_obs: [B, obs_dim] observation that the step led to; differs from `obs`
            where the environment has already started the next episode.
        rewards: [B] raw rewards.
        terminated: [B] the step led to a terminal state.
        truncated: [B] the episode was cut off after the step.
        valid: [B] False where the step was a reset (autoreset mode NEXT_STEP), was
            dropped, or its worker failed.
        dropped: [B] the episode is not to be learned from, as its data can't be used.
        restarted: [B] the environment failed and was replaced.
        costs: [B] what the step cost; None where costs are not read.
        successes: of episodes that ended whether each was a success, by environment;
            of those that say so.
        plain: each environment took a step, and nothing ended, failed or was dropped.
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
    successes: Mapping[int, float] = MappingProxyType({})
    plain: bool = False


def are_within(numbers: np.ndarray, largest: float) -> bool:
    """Whether every absolute value is `largest` at most; whole numbers are."""
    if numbers.dtype.kind != "f":
        return True
    # No square is more than their sum, which is found in a third of the time.
    if numbers.size <= FEW and float(np.vdot(numbers, numbers)) < largest * largest:
        return True
    return bool(is_within(numbers, largest).all())


def unusable_rows(obs: np.ndarray, largest: float) -> np.ndarray:
    """[B] environments whose observation [B, obs_dim] is not finite, or too large."""
    return ~is_within(np.abs(obs).max(axis=1), largest)


def is_usable(step: Transition, limits: Limits) -> bool:
    """Whether nothing is `unusable`; found faster than what."""
    return (
        are_within(step.rewards, limits.rewards)
        and are_within(step.obs, limits.obs)
        and (step.costs is None or are_within(step.costs, limits.rewards))
        # Where nothing has ended it is the same array.
        and (step.final_obs is step.obs or are_within(step.final_obs, limits.obs))
    )


def unusable(step: Transition, limits: Limits) -> np.ndarray:
    """[B] environments whose observations, reward or cost can't be learned from."""
    bad = ~is_within(step.rewards, limits.rewards)
    if step.costs is not None:
        bad |= ~is_within(step.costs, limits.rewards)
    bad |= unusable_rows(step.obs, limits.obs)
    return bad | unusable_rows(step.final_obs, limits.obs)


def refusal(step: Transition, limits: Limits, lengths: np.ndarray) -> ValueError:
    """The error that says which number of an `unusable` step it was.

    Args:
        step: The step.
        limits: Largest absolute values.
        lengths: [B] steps of each episode before it.
    """
    index = int(unusable(step, limits).argmax())
    # A step that is none, but a reset, has nothing else that could be bad.
    for name in ("final_obs", "rewards", "costs") if step.valid[index] else ():
        numbers = getattr(step, name)
        largest = limits.obs if name == "final_obs" else limits.rewards
        if numbers is not None and not is_within(numbers[index], largest).all():
            where = f"at step {lengths[index]} of its episode"
            return _refusal(name.removeprefix("final_"), numbers, index, largest, where)
    return reset_refusal(step.obs, index, limits)


def reset_refusal(obs: np.ndarray, index: int, limits: Limits) -> ValueError:
    """The error that says which number of environment `index` was bad at its reset."""
    return _refusal("obs", obs, index, limits.obs, "at the reset of its episode")


def _refusal(
    name: str, numbers: np.ndarray, index: int, largest: float, where: str
) -> ValueError:
    numbers, entry = np.atleast_1d(numbers[index]), ""
    column = int((~is_within(numbers, largest)).argmax())
    if name == "obs":
        entry = f" in entry {column}"
    return NonFiniteTransitionError(
        f"`{name}`: expected finite numbers of {largest:.2g} at most, got "
        f"{numbers[column]}{entry} from environment {index} {where}. Look for a "
        "division by zero or an unstable simulation there, scale what is so large, or "
        "leave such episodes out by on_bad_data='drop'."
    )
