"""Gymnasium spaces -> what a policy has to put out, and how actions come from it."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from trpo.heads import BERNOULLI, CATEGORICAL, GAUSSIAN, Head


SUPPORTED = (
    "observations: Box of numbers (any shape but an image's, flattened), Discrete, "
    "MultiDiscrete, MultiBinary, and Dict or Tuple of these (one-hot and flattened by "
    "gymnasium.wrappers.FlattenObservation, which trpo.environments applies); "
    "actions: Box of real numbers (any shape and bounds, flattened; finite bounds if "
    "policy_distribution is a squashed one), Discrete, MultiDiscrete, MultiBinary"
)


class UnsupportedSpaceError(ValueError):
    """The agent can't act in this space; the message names those it can."""


class PolicySpec(NamedTuple):
    """What an agent needs to know of an environment's spaces.

    Attributes:
        obs_dim: entries of one flattened observation.
        head: distribution over actions as the agent samples and stores them.
        action_low: [act_dim] lower bounds, -inf where there is none.
        action_high: [act_dim] upper bounds, +inf where there is none.
        action_shape: shape of the environment's action.
        action_dtype: dtype of the environment's action.
        action_start: [act_dim] what the environment calls the agent's 0; None if 0.
    """

    obs_dim: int
    head: Head
    action_low: np.ndarray
    action_high: np.ndarray
    action_shape: tuple[int, ...]
    action_dtype: np.dtype
    action_start: np.ndarray | None = None

    @property
    def act_dim(self) -> int:
        """Entries of one flattened action."""
        return self.head.act_dim

    def to_environment(self, actions: np.ndarray) -> np.ndarray:
        """Sampled actions [B, act_dim] as the environment takes them, [B, …].

        Counted from the space's start, squashed or else clipped to its bounds, in its
        shape and dtype.
        """
        if self.action_start is not None:
            actions = actions + self.action_start
        if self.head.family.squashed:
            share = 0.5 * (np.tanh(actions) + 1.0)
            # Not low + share * (high - low): that can overflow.
            actions = (1.0 - share) * self.action_low + share * self.action_high
        # As np.clip, faster on few numbers.
        clipped = np.minimum(np.maximum(actions, self.action_low), self.action_high)
        return clipped.astype(self.action_dtype).reshape(-1, *self.action_shape)


def policy_spec(
    observation_space: spaces.Space,
    action_space: spaces.Space,
    policy_distribution: str = GAUSSIAN,
) -> PolicySpec:
    """What the spaces of one (not vectorised) environment ask of a policy.

    Observations have to be arrays here; `trpo.environments.make_environment` makes
    arrays of Discrete ones, of Dict ones and so on.

    Args:
        observation_space: Of the environment.
        action_space: Of the environment.
        policy_distribution: Over Box actions, see `trpo.config.TRPOConfig`.

    Raises:
        UnsupportedSpaceError: one of the spaces is not supported, or not with this
            distribution; names it and those that are.
    """
    if not is_vector(observation_space):
        raise _unsupported("observation", observation_space)
    obs_dim = int(np.prod(observation_space.shape or ()))
    for kind, fields_of in ACTIONS.items():
        if isinstance(action_space, kind):
            fields = fields_of(action_space)
            if fields is not None:
                spec = PolicySpec(
                    obs_dim=obs_dim,
                    action_shape=tuple(action_space.shape or ()),
                    action_dtype=np.dtype(action_space.dtype),
                    **fields,
                )
                return _distributed(spec, policy_distribution, action_space)
    raise _unsupported("action", action_space)


def _distributed(
    spec: PolicySpec, policy_distribution: str, action_space: spaces.Space
) -> PolicySpec:
    """The spec with another distribution than a Box's default.

    Raises:
        UnsupportedSpaceError: the space can't have it.
    """
    if policy_distribution == GAUSSIAN:
        return spec
    if spec.head.distribution != GAUSSIAN:
        raise UnsupportedSpaceError(
            f"`policy_distribution`: expected the default for {action_space}, whose "
            f"actions are {spec.head.distribution!r}, got {policy_distribution!r}, "
            "which is for a Box of real numbers."
        )
    head = dataclasses.replace(spec.head, distribution=policy_distribution)
    try:
        head.check_bounds(spec.action_low, spec.action_high)
    except ValueError as error:
        raise UnsupportedSpaceError(
            f"`action_space`: {SUPPORTED}; got {action_space}. {error}"
        ) from error
    return spec._replace(head=head)


def is_vector(space: spaces.Space) -> bool:
    """Whether observations of this space are arrays of numbers, and no images."""
    if not isinstance(space, spaces.Box) or np.prod(space.shape) == 0:
        return False
    return not (space.dtype == np.uint8 and len(space.shape) >= 2)


def is_flattenable(space: spaces.Space) -> bool:
    """Whether `gymnasium.spaces.flatten` makes such an array of an observation."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        named = isinstance(space, spaces.Dict)
        parts = list(space.spaces.values() if named else space.spaces)
        return len(parts) > 0 and all(map(is_flattenable, parts))
    kinds = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    return isinstance(space, kinds) or is_vector(space)


def flattened(space: spaces.Space) -> spaces.Space:
    """The space of observations as an agent takes them; others stay what they are."""
    if is_vector(space) or not is_flattenable(space):
        return space
    return spaces.flatten_space(space)


def _unsupported(role: str, space: spaces.Space) -> UnsupportedSpaceError:
    return UnsupportedSpaceError(
        f"`{role}_space`: expected a supported space ({SUPPORTED}), got {space}. Wrap "
        "the environment, for example with gymnasium.wrappers.FlattenObservation."
    )


def _box(space: spaces.Box) -> dict[str, Any] | None:
    if not np.issubdtype(space.dtype, np.floating) or np.prod(space.shape) == 0:
        return None
    return _fields(GAUSSIAN, space.low, space.high)


def _discrete(space: spaces.Discrete) -> dict[str, Any]:
    return _choices(np.array([space.n]), np.array([space.start]))


def _multi_discrete(space: spaces.MultiDiscrete) -> dict[str, Any] | None:
    return _choices(space.nvec, space.start) if space.nvec.size else None


def _multi_binary(space: spaces.MultiBinary) -> dict[str, Any] | None:
    ones = np.ones(space.shape or (), dtype=np.int64)
    return _fields(BERNOULLI, 0 * ones, ones) if ones.size else None


# One line for each kind of action: its fields of `PolicySpec`, None if unsupported.
ACTIONS = {
    spaces.Box: _box,
    spaces.Discrete: _discrete,
    spaces.MultiDiscrete: _multi_discrete,
    spaces.MultiBinary: _multi_binary,
}


def _choices(sizes: np.ndarray, start: np.ndarray) -> dict[str, Any]:
    sizes, start = (np.reshape(a, -1).astype(np.int64) for a in (sizes, start))
    fields = _fields(CATEGORICAL, start, start + sizes - 1, tuple(sizes))
    return fields | {"action_start": start if start.any() else None}


def _fields(
    distribution: str, low: np.ndarray, high: np.ndarray, sizes: tuple = ()
) -> dict[str, Any]:
    return {
        "head": Head(int(np.size(low)), distribution, sizes),
        "action_low": np.reshape(low, -1),
        "action_high": np.reshape(high, -1),
    }
