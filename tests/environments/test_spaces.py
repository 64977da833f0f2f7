"""Gymnasium spaces -> sizes and bounds, or a clear refusal."""

import numpy as np
import pytest
from gymnasium import spaces

from trpo.spaces.observations import flattened, is_flattenable
from trpo.spaces.spaces import UnsupportedSpaceError, policy_spec


BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)


def test_sizes_and_bounds_are_flattened_in_row_order():
    low = np.array([[-1.0, -2.0], [-np.inf, 0.0]])
    high = np.array([[1.0, 2.0], [3.0, np.inf]])
    spec = policy_spec(
        spaces.Box(-np.inf, np.inf, (2, 3, 4), np.float64),
        spaces.Box(low, high, dtype=np.float64),
    )
    assert (spec.obs_dim, spec.act_dim, spec.action_shape) == (24, 4, (2, 2))
    np.testing.assert_array_equal(spec.action_low, [-1, -2, -np.inf, 0])
    np.testing.assert_array_equal(spec.action_high, [1, 2, 3, np.inf])
    assert type(spec.obs_dim) is type(spec.act_dim) is int


def test_scalar_boxes_have_one_entry():
    spec = policy_spec(spaces.Box(0.0, 1.0, ()), spaces.Box(-2.0, 2.0, ()))
    assert (spec.obs_dim, spec.act_dim, spec.action_shape) == (1, 1, ())
    assert (spec.action_low.shape, spec.action_high.shape) == ((1,), (1,))


@pytest.mark.parametrize(
    ("space", "distribution", "sizes", "act_dim"),
    [
        (spaces.Box(-1.0, 1.0, (2, 2)), "gaussian", (), 4),
        (spaces.Discrete(3, start=-5), "categorical", (3,), 1),
        (spaces.MultiDiscrete([2, 4]), "categorical", (2, 4), 2),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), "categorical", (2, 3, 4, 5), 4),
        (spaces.MultiBinary(3), "bernoulli", (), 3),
        (spaces.MultiBinary([2, 3]), "bernoulli", (), 6),
    ],
    ids=str,
)
def test_a_space_decides_the_distribution(space, distribution, sizes, act_dim):
    head = policy_spec(BOX, space).head
    assert (head.distribution, head.action_sizes) == (distribution, sizes)
    assert (head.act_dim, head.output_dim) == (act_dim, sum(sizes) or act_dim)
    assert head.family.discrete == (distribution != "gaussian")


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=-5),
        spaces.MultiDiscrete([2, 4], start=[10, -1]),
        spaces.MultiDiscrete([[2, 3], [4, 5]]),
        spaces.MultiBinary([2, 3]),
    ],
    ids=str,
)
def test_every_action_of_the_agent_is_one_of_the_environment_and_back(space):
    spec = policy_spec(BOX, space)
    limits = np.array(spec.head.action_sizes or (2,) * spec.act_dim)
    numbers = np.stack([np.zeros(len(limits)), limits - 1]).astype(np.float32)
    sent = spec.to_environment(numbers)
    assert sent.dtype == space.dtype
    assert all(space.contains(action) for action in sent)
    start = np.reshape(getattr(space, "start", 0), -1)
    np.testing.assert_array_equal(sent.reshape(2, -1) - start, numbers)
    assert not any(space.contains(a) for a in (sent[0] - 1, sent[1] + 1))


def test_real_actions_are_clipped_and_keep_their_shape_and_dtype():
    spec = policy_spec(BOX, spaces.Box(-1.0, 1.0, (2, 2), np.float32))
    sent = spec.to_environment(np.array([[-3.0, 0.25, 0.5, 7.0]], np.float32))
    np.testing.assert_array_equal(sent, [[[-1.0, 0.25], [0.5, 1.0]]])
    assert sent.dtype == np.float32


STACK = spaces.Box(0, 255, (2, 8, 8, 3), np.uint8)
UNSUPPORTED = [
    spaces.Text(5),
    spaces.Sequence(BOX),
    spaces.Graph(BOX, None),
    spaces.Box(-1.0, 1.0, (0,)),
    spaces.Box(-1.0, 1.0, (3, 0)),
    spaces.Dict(a=BOX, b=STACK),
    spaces.Dict(),
    spaces.Tuple([BOX, spaces.Text(3)]),
    STACK,
]


@pytest.mark.parametrize("space", UNSUPPORTED, ids=str)
def test_other_spaces_are_refused_by_role_with_what_is_supported(space):
    for role, pair in (("observation", (space, BOX)), ("action", (BOX, space))):
        refused(role, space, pair)


@pytest.mark.parametrize(
    "space",
    [spaces.Box(0, 5, (2,), np.int64), spaces.Dict(a=spaces.Box(0, 5, (2,), np.int64))],
    ids=str,
)
def test_some_are_observations_only(space):
    refused("action", space, (BOX, space))
    assert policy_spec(flattened(space), BOX).obs_dim == spaces.flatdim(space)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary((2, 2)),
        spaces.Dict(a=BOX, b=spaces.Tuple([spaces.Discrete(2), BOX])),
    ],
    ids=str,
)
def test_observations_that_are_no_arrays_have_to_be_flattened_first(space):
    refused("observation", space, (space, BOX))
    assert is_flattenable(space)
    assert policy_spec(flattened(space), BOX).obs_dim == spaces.flatdim(space)


@pytest.mark.parametrize("space", UNSUPPORTED, ids=str)
def test_what_is_not_supported_is_not_flattened(space):
    assert flattened(space) is space


def refused(role, space, pair):
    with pytest.raises(UnsupportedSpaceError, match=f"`{role}_space`") as caught:
        policy_spec(*pair)
    message = str(caught.value)
    assert str(space) in message
    assert "observations: Box" in message
    assert "actions: Box" in message
    assert isinstance(caught.value, ValueError)
