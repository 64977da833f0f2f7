"""Gymnasium spaces -> sizes and bounds, or a clear refusal."""

import numpy as np
import pytest
from gymnasium import spaces

from trpo.spaces.observations import ObservationReader, flattened, refusals
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
        (spaces.Box(-1, 2, (1, 2), np.int8), "categorical", (4, 4), 2),
        (spaces.Box(0, 3, (), np.int32), "categorical", (4,), 1),
        (spaces.Box(0, 1, (2,), bool), "categorical", (2, 2), 2),
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
        spaces.Box(np.int32([[-3, 5]]), np.int32([[-2, 9]]), dtype=np.int32),
        spaces.Box(-128, 127, (2,), np.int8),
        spaces.Box(np.uint64(2**63), np.uint64(2**63 + 2), (1,), np.uint64),
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
    start = np.reshape(getattr(space, "start", getattr(space, "low", 0)), -1)
    start = start.astype(sent.dtype)
    counted = (sent.reshape(2, -1) - start).astype(f"u{sent.dtype.itemsize}")
    np.testing.assert_array_equal(counted, numbers)
    with np.errstate(over="ignore"):
        outside = (sent[0] - sent.dtype.type(1), sent[1] + sent.dtype.type(1))
    wraps = getattr(space, "low", start).min() == np.iinfo(sent.dtype).min
    assert wraps or not any(space.contains(action) for action in outside)


def test_real_actions_are_clipped_and_keep_their_shape_and_dtype():
    spec = policy_spec(BOX, spaces.Box(-1.0, 1.0, (2, 2), np.float32))
    sent = spec.to_environment(np.array([[-3.0, 0.25, 0.5, 7.0]], np.float32))
    np.testing.assert_array_equal(sent, [[[-1.0, 0.25], [0.5, 1.0]]])
    assert sent.dtype == np.float32


STACK = spaces.Box(0, 255, (2, 8, 8, 3), np.uint8)
UNSUPPORTED = [
    spaces.Sequence(BOX),
    spaces.Graph(BOX, None),
    spaces.OneOf([BOX, spaces.Discrete(2)]),
    spaces.Discrete(2**20 + 1),
    spaces.Box(-1.0, 1.0, (0,)),
    spaces.Box(-1.0, 1.0, (3, 0)),
    spaces.Dict(a=BOX, b=STACK),
    spaces.Dict(),
    spaces.Tuple([BOX, spaces.Sequence(BOX)]),
    STACK,
]


@pytest.mark.parametrize("space", UNSUPPORTED, ids=str)
def test_other_spaces_are_refused_by_role_with_what_is_supported(space):
    for role, pair in (("observation", (space, BOX)), ("action", (BOX, space))):
        refused(role, space, pair)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Dict(a=spaces.Text(5)),
        spaces.Box(0, 2**31, (2,), "int64"),
    ],
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
        spaces.Text(4),
        spaces.Dict(a=BOX, b=spaces.Tuple([spaces.Discrete(2), BOX])),
    ],
    ids=str,
)
def test_observations_that_are_no_arrays_have_to_be_flattened_first(space):
    refused("observation", space, (space, BOX))
    assert not refusals(space)
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


FLAT = [
    spaces.Discrete(3, start=2),
    spaces.Discrete(3, start=np.uint64(2**64 - 4), dtype=np.uint64),
    spaces.MultiDiscrete([[2, 3], [4, 1]], start=[[1, -5], [0, 9]]),
    spaces.MultiBinary((2, 2)),
    spaces.Text(6),
    spaces.Text(4, min_length=0, charset="ab é"),
    spaces.Dict(
        b=spaces.Tuple([spaces.Discrete(2), BOX, spaces.Box(0, 9, (2, 3), np.int16)]),
        a=spaces.Dict(c=spaces.Text(3), d=spaces.MultiBinary(2)),
        picture=spaces.Box(0, 255, (5, 4, 3), np.uint8),
    ),
]


@pytest.mark.parametrize("space", FLAT, ids=str)
def test_an_observation_becomes_the_array_that_gymnasium_makes_of_it(space):
    read = ObservationReader(space)
    space.seed(3)
    for _ in range(20):
        obs = space.sample()
        flat = read(obs)
        assert read.space.contains(flat)
        if "Discrete" not in type(space).__name__ or space.dtype != np.uint64:
            np.testing.assert_array_equal(flat, spaces.flatten(space, obs))
    assert (flat.dtype == np.uint8) == isinstance(
        space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    )


WRONG = [
    (spaces.Discrete(3), 3, "`obs`: expected one of Discrete"),
    (spaces.Discrete(3, start=2), 1, "got 1"),
    (spaces.Discrete(3), 1.0, "got 1.0"),
    (spaces.Discrete(3), None, "got None"),
    (spaces.MultiDiscrete([2, 2]), [0, 2], "expected one of MultiDiscrete"),
    (spaces.MultiDiscrete([2, 2]), [0], "expected one of MultiDiscrete"),
    (spaces.MultiBinary(2), [0, 2], "expected one of MultiBinary"),
    (spaces.Text(2), "abc", "expected one of Text"),
    (spaces.Text(2), "é", "expected one of Text"),
    (spaces.Text(2), 3, "expected one of Text"),
    (spaces.Dict(a=BOX), np.zeros(3), "expected a dict with 'a'"),
    (spaces.Dict(a=BOX), {"b": np.zeros(3)}, "expected a dict with 'a'"),
    (spaces.Dict(a=spaces.Tuple([BOX])), {"a": ()}, r"`obs\['a'\]`: .* item 0"),
    (
        spaces.Dict(a=spaces.Tuple([BOX])),
        {"a": (np.zeros(2),)},
        r"`obs\['a'\]\[0\]`: expected an observation of float32 \[3\]",
    ),
]


@pytest.mark.parametrize(("space", "obs", "message"), WRONG)
def test_an_observation_outside_its_space_is_named_by_its_part(space, obs, message):
    with pytest.raises(ValueError, match=message):
        ObservationReader(space)(obs)


MISSION = spaces.Dict(
    image=spaces.Box(0, 255, (7, 7, 3), np.uint8),
    mission=spaces.Sequence(spaces.Discrete(3)),
    more=spaces.Dict(graph=spaces.Graph(BOX, None), size=BOX),
)


def test_a_part_that_is_no_array_is_named_and_can_be_left_out():
    with pytest.raises(UnsupportedSpaceError) as caught:
        policy_spec(MISSION, BOX)
    said = str(caught.value)
    assert "'mission', Sequence" in said
    assert "--omit-observations mission" in said
    assert "'more.graph', Graph" in said
    assert "FlattenObservation" not in said
    read = ObservationReader(MISSION, ("mission", "more.graph"))
    obs = MISSION.sample()
    flat = read(obs)
    np.testing.assert_array_equal(flat[:147], obs["image"].reshape(-1))
    np.testing.assert_array_equal(flat[147:], obs["more"]["size"])
    assert len(policy_spec(read.space, BOX).images) == 1


@pytest.mark.parametrize("name", ["nothing", "more.nothing", "image.x", "more.size.y"])
def test_only_a_key_that_is_there_is_left_out(name):
    with pytest.raises(ValueError, match=f"`omit_observations`.*{name}"):
        ObservationReader(MISSION, (name,))


def test_not_all_keys_are_left_out():
    with pytest.raises(ValueError, match="not all of them"):
        ObservationReader(spaces.Dict(a=BOX), ("a",))


@pytest.mark.parametrize("kind", [spaces.Sequence(BOX), spaces.Graph(BOX, None),
                                  spaces.OneOf([BOX, spaces.Discrete(2)])])  # fmt: skip
def test_spaces_of_no_fixed_size_are_refused_with_what_to_do(kind):
    with pytest.raises(UnsupportedSpaceError, match="have a wrapper"):
        policy_spec(kind, BOX)


def test_more_options_than_a_network_has_outputs_are_refused():
    for space in (
        spaces.Box(0, 2**20, (1,), np.int64),
        spaces.MultiDiscrete([2**20, 2]),
    ):
        refused("action", space, (BOX, space))
    whole = spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (2,), np.int64)
    refused("action", whole, (BOX, whole))
