"""Gymnasium spaces -> what a policy has to put out, and how actions come from it."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from trpo.common.validation import WIDEST_LAYER, on_host
from trpo.spaces.action_heads import BERNOULLI, CATEGORICAL, GAUSSIAN, MIXTURES, Head
from trpo.spaces.architecture import Image
from trpo.spaces.observations import (
    flat_rows,
    images_of,
    is_image,
    is_numbers,
    is_vector,
    refusals,
    unflattened,
)


SUPPORTED = (
    "observations: Box of numbers (of 64 bits at most, any shape, flattened), image "
    "(Box of uint8 with 2 or 3 dimensions, encoded), Discrete, MultiDiscrete, "
    "MultiBinary, Text, and Dict or Tuple of these (one-hot and flattened, which "
    "trpo.environments does); actions: Box of real numbers (of 64 bits at most, any "
    "shape and bounds, flattened; finite bounds if policy_distribution is a squashed "
    "one), Box of whole numbers (each a choice), Discrete, MultiDiscrete, MultiBinary, "
    f"and Dict or Tuple of these (each of {WIDEST_LAYER:,} options at most)"
)


class UnsupportedSpaceError(ValueError):
    """The agent can't act in this space; the message names those it can."""


class PolicySpec(NamedTuple):
    """Sizes and bounds of observations and actions, and how actions are converted.

    Attributes:
        obs_dim: entries of one flattened observation.
        head: distribution over actions as the agent samples and stores them.
        action_low: [act_dim] lower bounds, -inf where there is none.
        action_high: [act_dim] upper bounds, +inf where there is none.
        action_shape: shape of the environment's action.
        action_dtype: dtype of the environment's action.
        action_start: [act_dim] what the environment calls the agent's 0; None if 0.
        structure: the Dict or Tuple of actions, if it is one.
        parts: its leaves in order: each one's columns of the agent's action, and spec.
            The real entries of all leaves come before all choices.
        images: those in an observation.
        observation_space: of the environment, before observations are flattened; None
            where the agent was made without.
    """

    obs_dim: int
    head: Head
    action_low: np.ndarray
    action_high: np.ndarray
    action_shape: tuple[int, ...]
    action_dtype: np.dtype
    action_start: np.ndarray | None = None
    # In quotes: before Gymnasium 1.2 a Tuple takes no type.
    structure: "spaces.Dict | spaces.Tuple[Any] | None" = None
    parts: tuple[tuple[np.ndarray, "PolicySpec"], ...] = ()
    images: tuple[Image, ...] = ()
    observation_space: spaces.Space[Any] | None = None

    @property
    def act_dim(self) -> int:
        """Entries of one flattened action."""
        return self.head.act_dim

    def to_environment(self, actions: np.ndarray) -> Any:
        """Sampled actions [B, act_dim] as the environment takes them, [B, …].

        Counted from the space's start, squashed or else clipped to its bounds, in its
        shape and dtype; of a Dict or Tuple, one of such arrays. NumPy's answer, also
        of a framework's arrays.
        """
        actions = on_host(actions)
        if self.structure is not None:
            parts = (
                spec.to_environment(actions[:, columns]) for columns, spec in self.parts
            )
            return filled(self.structure, parts)
        if self.action_start is not None:
            # Not as floats, which have no digits left for a start of 2**60.
            actions = actions.astype(np.int64) + self.action_start
        if self.head.family.squashed:
            share = 0.5 * (np.tanh(actions) + 1.0)
            # Not low + share * (high - low): that can overflow.
            actions = (1.0 - share) * self.action_low + share * self.action_high
        # As np.clip, faster on few numbers.
        clipped = np.minimum(np.maximum(actions, self.action_low), self.action_high)
        sent = clipped.astype(self.action_dtype, copy=False)
        return sent.reshape(-1, *self.action_shape)

    def one_to_environment(self, action: Any) -> Any:
        """One sampled action [act_dim] as one (not vectorised) environment takes it."""
        return first(self.to_environment(action[None]))

    def from_environment(self, actions: Any) -> np.ndarray:
        """Environments' actions as the agent's: the way back of `to_environment`.

        Args:
            actions: [B, …] of environments, or one action of one environment.

        Returns:
            [B, act_dim], or [act_dim]. What was clipped comes back as it was sent; of a
            squashed action's bounds, the nearest numbers that atanh has a value for.

        Raises:
            ValueError: they have another shape.
        """
        if self.structure is not None:
            values = taken_apart(self.structure, actions)
            arrays = [
                spec.from_environment(value)
                for value, (_, spec) in zip(values, self.parts, strict=True)
            ]
            shape = (*arrays[0].shape[:-1], self.act_dim)
            joined = np.empty(shape)
            for array, (columns, _) in zip(arrays, self.parts, strict=True):
                joined[..., columns] = array
            return joined
        array, shape = on_host(actions), self.action_shape
        if array.shape != shape and array.shape[1:] != shape:
            raise ValueError(
                f"`actions`: expected shape {list(shape)} or [B, *{list(shape)}], got "
                f"{list(array.shape)}."
            )
        rows = array.reshape(-1, self.act_dim)
        if self.action_start is not None:
            rows = rows.astype(np.int64) - self.action_start
        if self.head.family.squashed:
            low, width = self.action_low, self.action_high - self.action_low
            share = (rows.astype(np.float64) - low) / np.where(width > 0, width, 1.0)
            share = np.where(width > 0, share, 0.5)
            inside = 1.0 - np.finfo(np.float64).epsneg
            rows = np.arctanh(np.clip(2.0 * share - 1.0, -inside, inside))
        rows = rows if rows.dtype.kind == "f" else rows.astype(np.float64)
        return rows[0] if array.shape == shape else rows

    def flat_observations(self, obs: Any) -> tuple[np.ndarray, bool]:
        """Observations as the agent takes them, [B, obs_dim], and if it was one alone.

        Args:
            obs: One or many, as the environment gives them; or flat already.

        Raises:
            ValueError: they are none of the observation space.
        """
        flat = spaces.Box(-np.inf, np.inf, (self.obs_dim,))
        space = self.observation_space or flat
        if not isinstance(obs, dict | tuple):
            shape = on_host(obs).shape
            joint = isinstance(space, spaces.Dict | spaces.Tuple)
            if joint or (space.shape or ()) not in (shape, shape[1:]):
                space = flat
        return flat_rows(space, obs)


def policy_spec(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    policy_distribution: str = GAUSSIAN,
) -> PolicySpec:
    """Specification of a policy for the spaces of one (not vectorised) environment.

    Observations have to be arrays here; `trpo.environments.make.make_environment` makes
    arrays of Discrete ones, of Dict ones and so on.

    Args:
        observation_space: Of the environment.
        action_space: Of the environment.
        policy_distribution: Over Box actions, see `trpo.config.run.TRPOConfig`.

    Raises:
        UnsupportedSpaceError: one of the spaces is not supported, or not with this
            distribution; names it and those that are.
    """
    if not (is_vector(observation_space) or is_image(observation_space)):
        raise _unsupported("observation", observation_space)
    spec = _of_actions(
        int(np.prod(observation_space.shape or ())), action_space, policy_distribution
    )
    space = unflattened(observation_space)
    return spec._replace(images=images_of(observation_space), observation_space=space)


def require_single(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> None:
    """Refuse the spaces of a vector environment, which hold all environments'.

    They are as many equal rows, in observations and in actions.

    Raises:
        UnsupportedSpaceError: these look like that; says what to take instead.
    """
    rows = {_equal_rows(s) for s in (*leaves(observation_space), *leaves(action_space))}
    if rows in ({1}, set()) or len(rows) > 1:
        return
    raise UnsupportedSpaceError(
        "`observation_space`: expected the space of one environment, got what looks "
        f"like that of {rows.pop()} together: {observation_space}. Take "
        "`env.single_observation_space` and `env.single_action_space` of a vector "
        "environment. If one environment has these, wrap it in "
        "gymnasium.wrappers.FlattenObservation."
    )


def _equal_rows(space: spaces.Space[Any]) -> int:
    """Rows of a space's array if there are several and all have the same bounds."""
    if isinstance(space, spaces.Box) and len(space.shape) >= 2:
        bounds = (space.low, space.high)
    elif isinstance(space, spaces.MultiDiscrete):
        bounds = (space.nvec, space.start)
    else:
        return 1
    equal = all((array == array[:1]).all() for array in bounds)
    return len(bounds[0]) if equal else 1


def _of_actions(
    obs_dim: int, action_space: spaces.Space[Any], policy_distribution: str
) -> PolicySpec:
    """The spec but for the images."""
    if isinstance(action_space, spaces.Dict | spaces.Tuple):
        return _joint(obs_dim, action_space, policy_distribution)
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


def _joint(
    obs_dim: int, space: spaces.Dict | spaces.Tuple, policy_distribution: str
) -> PolicySpec:
    """One distribution over all leaves of a Dict or Tuple of actions.

    Raises:
        UnsupportedSpaceError: see `policy_spec`.
    """
    kinds = list(leaves(space))
    try:
        specs = [_of_actions(1, leaf, GAUSSIAN) for leaf in kinds]
    except UnsupportedSpaceError as error:
        raise _unsupported("action", space) from error
    if not specs:
        raise _unsupported("action", space)
    real = [not spec.head.options for spec in specs]
    if all(real):
        specs = [
            _distributed(spec, policy_distribution, leaf)
            for spec, leaf in zip(specs, kinds, strict=True)
        ]
    sizes = tuple(
        size for spec, is_real in zip(specs, real, strict=True)
        if not is_real for size in spec.head.options
    )  # fmt: skip
    head = Head(
        sum(spec.act_dim for spec in specs),
        _joint_distribution(space, any(real), len(sizes) > 0, policy_distribution),
        sizes,
    )
    ends = [0, head.reals]
    parts = []
    for spec, is_real in zip(specs, real, strict=True):
        start = ends[not is_real]
        ends[not is_real] += spec.act_dim
        parts.append((np.arange(start, start + spec.act_dim), spec))
    order = np.argsort(np.concatenate([columns for columns, _ in parts]))
    low, high = (
        np.concatenate([getattr(s, n) for _, s in parts]).astype(np.float64)[order]
        for n in ("action_low", "action_high")
    )
    return PolicySpec(
        obs_dim, head, low, high, (head.act_dim,), np.dtype("float64"),
        structure=space, parts=tuple(parts),
    )  # fmt: skip


def _joint_distribution(
    space: spaces.Space[Any], reals: bool, choices: bool, policy_distribution: str
) -> str:
    """The name of a joint distribution.

    Raises:
        UnsupportedSpaceError: there is none.
    """
    if not choices:
        return policy_distribution
    of_reals = {plain: mixed for mixed, plain in MIXTURES.items()}
    if not reals:
        of_reals = {GAUSSIAN: CATEGORICAL}
    if policy_distribution not in of_reals:
        raise UnsupportedSpaceError(
            f"`policy_distribution`: expected {' or '.join(map(repr, of_reals))} for "
            f"{space}, which has discrete parts, got {policy_distribution!r}."
        )
    return of_reals[policy_distribution]


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


def _unsupported(role: str, space: spaces.Space[Any]) -> UnsupportedSpaceError:
    advice = "Have a wrapper take actions of one of these and make the others of them."
    if role == "observation":
        advice = " ".join(refusals(space)) or (
            "It has to be flat: trpo.environments makes it so, and "
            "gymnasium.wrappers.FlattenObservation does."
        )
    return UnsupportedSpaceError(
        f"`{role}_space`: expected a supported space ({SUPPORTED}), got {space}. "
        f"{advice}"
    )


def _box(space: spaces.Box) -> dict[str, Any] | None:
    if not is_numbers(space):
        return None
    if space.dtype.kind == "f":
        return _fields(GAUSSIAN, space.low, space.high)
    # Python's integers: the range of an int64 is more than it holds.
    low, high = (bound.reshape(-1).astype(object) for bound in (space.low, space.high))
    return _choices(high * 1 - low * 1 + 1, space.low)


def _discrete(space: spaces.Discrete) -> dict[str, Any] | None:
    return _choices(np.array([space.n]), np.array([space.start]))


def _multi_discrete(space: spaces.MultiDiscrete) -> dict[str, Any] | None:
    return _choices(space.nvec, space.start) if space.nvec.size else None


def _multi_binary(space: spaces.MultiBinary) -> dict[str, Any] | None:
    ones = np.ones(space.shape or (), dtype=np.int64)
    return _fields(BERNOULLI, 0 * ones, ones) if ones.size else None


# One line for each kind of action: its fields of `PolicySpec`, None if unsupported.
ACTIONS: dict[type[Any], Callable[..., Any]] = {
    spaces.Box: _box,
    spaces.Discrete: _discrete,
    spaces.MultiDiscrete: _multi_discrete,
    spaces.MultiBinary: _multi_binary,
}


def _choices(sizes: np.ndarray, start: np.ndarray) -> dict[str, Any] | None:
    if np.sum(sizes, dtype=object) > WIDEST_LAYER:
        return None
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


def leaves(space: spaces.Space[Any]) -> Iterator[spaces.Space[Any]]:
    """The spaces in a Dict or Tuple, those in its own Dicts and Tuples included."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        yield space
        return
    for part in space.values() if isinstance(space, spaces.Dict) else space:
        yield from leaves(part)


def filled(space: spaces.Space[Any], parts: Iterator[Any]) -> Any:
    """A Dict's or Tuple's action from those of its `leaves`, in order."""
    if isinstance(space, spaces.Dict):
        return {name: filled(part, parts) for name, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(filled(part, parts) for part in space)
    return next(parts)


def taken_apart(space: spaces.Space[Any], actions: Any) -> list[Any]:
    """The parts that `filled` has put together."""
    if isinstance(space, spaces.Dict):
        pairs = [(part, actions[name]) for name, part in space.items()]
    elif isinstance(space, spaces.Tuple):
        pairs = list(zip(space, actions, strict=True))
    else:
        return [actions]
    return [leaf for part, value in pairs for leaf in taken_apart(part, value)]


def first(sent: Any) -> Any:
    """The first environment's action."""
    if isinstance(sent, dict):
        return {name: first(part) for name, part in sent.items()}
    return tuple(map(first, sent)) if isinstance(sent, tuple) else sent[0]
