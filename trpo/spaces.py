"""Gymnasium spaces -> sizes and bounds that an agent is built from."""

from typing import NamedTuple

import numpy as np
from gymnasium import spaces


SUPPORTED = (
    "observations: Box of real numbers (any shape, flattened); "
    "actions: Box of real numbers (any shape and bounds, flattened)"
)


class UnsupportedSpaceError(ValueError):
    """The agent can't act in this space; the message names those it can."""


class PolicySpec(NamedTuple):
    """Sizes and bounds of a policy.

    Attributes:
        obs_dim: entries of one flattened observation.
        act_dim: entries of one flattened action.
        action_low: [act_dim] lower bounds, -inf where there is none.
        action_high: [act_dim] upper bounds, +inf where there is none.
        action_shape: shape of the environment's action.
    """

    obs_dim: int
    act_dim: int
    action_low: np.ndarray
    action_high: np.ndarray
    action_shape: tuple[int, ...]


def policy_spec(
    observation_space: spaces.Space, action_space: spaces.Space
) -> PolicySpec:
    """Sizes and bounds for the spaces of one (not vectorised) environment.

    Raises:
        UnsupportedSpaceError: one of the spaces is not supported; names it and those
            that are.
    """
    observations = _require_real_box("observation", observation_space)
    actions = _require_real_box("action", action_space)
    return PolicySpec(
        obs_dim=int(np.prod(observations.shape)),
        act_dim=int(np.prod(actions.shape)),
        action_low=actions.low.reshape(-1),
        action_high=actions.high.reshape(-1),
        action_shape=actions.shape,
    )


def _require_real_box(role: str, space: spaces.Space) -> spaces.Box:
    if (
        isinstance(space, spaces.Box)
        and np.issubdtype(space.dtype, np.floating)
        and np.prod(space.shape) > 0
    ):
        return space
    raise UnsupportedSpaceError(
        f"`{role}_space`: expected a supported space ({SUPPORTED}), got {space}. Wrap "
        "the environment, for example with gymnasium.wrappers.FlattenObservation."
    )
