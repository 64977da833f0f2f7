"""Gymnasium spaces -> what a policy has to put out, and how actions come from it."""

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces


SUPPORTED = (
    "observations: Box of numbers (any shape but an image's, flattened), Discrete, "
    "MultiDiscrete, MultiBinary, and Dict or Tuple of these (one-hot, flattened, joined; "
    "trpo.environments does so); "
    "actions: Box of real numbers (any shape and bounds, flattened), Discrete, "
    "MultiDiscrete, MultiBinary"
)

GAUSSIAN, CATEGORICAL, BERNOULLI = "diagonal_gaussian", "categorical", "bernoulli"
DISTRIBUTIONS = (GAUSSIAN, CATEGORICAL, BERNOULLI)


class UnsupportedSpaceError(ValueError):
    """The agent can't act in this space; the message names those it can."""


class PolicySpec(NamedTuple):
    """Sizes and bounds of a policy.

    Attributes:
        obs_dim: entries of one flattened observation.
        act_dim: entries of one flattened action, as the agent samples and stores it.
        action_low: [act_dim] lower bounds, -inf where there is none.
        action_high: [act_dim] upper bounds, +inf where there is none.
        action_shape: shape of the environment's action.
        action_dtype: dtype of the environment's action.
        distribution: one of `DISTRIBUTIONS`.
        action_sizes: options of each choice, [act_dim]; empty unless categorical.
        action_start: [act_dim] the environment's name of the agent's 0.
    """

    obs_dim: int
    act_dim: int
    action_low: np.ndarray
    action_high: np.ndarray
    action_shape: tuple[int, ...]
    action_dtype: np.dtype
    distribution: str = GAUSSIAN
    action_sizes: tuple[int, ...] = ()
    action_start: np.ndarray = np.zeros(1)

    def to_environment(self, actions: np.ndarray) -> np.ndarray:
        """Sampled actions [B, act_dim] as the environment takes them, [B, …].

        Within the bounds, counted from the space's start, in its shape and dtype.
        """
        clipped = np.clip(actions + self.action_start, self.action_low, self.action_high)
        return clipped.astype(self.action_dtype).reshape(-1, *self.action_shape)


def output_dim(distribution: str, act_dim: int, action_sizes: tuple[int, ...]) -> int:
    """Numbers that the policy's network puts out for one observation."""
    return sum(action_sizes) if distribution == CATEGORICAL else act_dim


def policy_spec(
    observation_space: spaces.Space, action_space: spaces.Space
) -> PolicySpec:
    """Sizes and bounds for the spaces of one (not vectorised) environment.

    Raises:
        UnsupportedSpaceError: one of the spaces is not supported; names it and those
            that are.
    """
    obs_dim = int(np.prod(_require_vector(observation_space).shape))
    actions = _actions(action_space)
    return PolicySpec(obs_dim=obs_dim, **actions)


def is_vector(space: spaces.Space) -> bool:
    """Whether observations of this space are arrays of numbers, and no images."""
    if not isinstance(space, spaces.Box) or np.prod(space.shape) == 0:
        return False
    return not (space.dtype == np.uint8 and len(space.shape) >= 3)


def is_flattenable(space: spaces.Space) -> bool:
    """Whether `gymnasium.spaces.flatten` makes such a vector of an observation."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return len(space.spaces) > 0 and all(map(is_flattenable, parts))
    kinds = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    return isinstance(space, kinds) or is_vector(space)


def _require_vector(space: spaces.Space) -> spaces.Space:
    if is_vector(space):
        return space
    raise _unsupported("observation", space)


def _unsupported(role: str, space: spaces.Space) -> UnsupportedSpaceError:
    return UnsupportedSpaceError(
        f"`{role}_space`: expected a supported space ({SUPPORTED}), got {space}. Wrap "
        "the environment, for example with gymnasium.wrappers.FlattenObservation."
    )


def _actions(space: spaces.Space) -> dict[str, Any]:
    """The fields of `PolicySpec` that an action space decides."""
    if isinstance(space, spaces.Box):
        if np.issubdtype(space.dtype, np.floating) and np.prod(space.shape) > 0:
            return _fields(space, GAUSSIAN, space.low, space.high)
    elif isinstance(space, spaces.Discrete):
        return _choices(space, np.array([space.n]), np.array([space.start]))
    elif isinstance(space, spaces.MultiDiscrete) and space.nvec.size > 0:
        return _choices(space, space.nvec.reshape(-1), space.start.reshape(-1))
    elif isinstance(space, spaces.MultiBinary) and np.prod(space.shape) > 0:
        ones = np.ones(space.shape)
        return _fields(space, BERNOULLI, 0.0 * ones, ones)
    raise _unsupported("action", space)


def _choices(
    space: spaces.Space, sizes: np.ndarray, start: np.ndarray
) -> dict[str, Any]:
    sizes, start = sizes.astype(np.int64), start.astype(np.int64)
    fields = _fields(space, CATEGORICAL, start, start + sizes - 1)
    return fields | {"action_sizes": tuple(map(int, sizes)), "action_start": start}


def _fields(
    space: spaces.Space, distribution: str, low: np.ndarray, high: np.ndarray
) -> dict[str, Any]:
    return {
        "act_dim": int(np.size(low)),
        "action_low": np.reshape(low, -1),
        "action_high": np.reshape(high, -1),
        "action_shape": tuple(space.shape or ()),
        "action_dtype": np.dtype(space.dtype),
        "distribution": distribution,
        "action_start": np.zeros(int(np.size(low)), dtype=np.int64),
    }
