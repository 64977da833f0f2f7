"""Gymnasium spaces -> sizes and bounds, or a clear refusal."""

import numpy as np
import pytest
from gymnasium import spaces

from trpo.spaces import UnsupportedSpaceError, policy_spec


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
    "space",
    [
        spaces.Discrete(3),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(4),
        spaces.Dict(a=BOX),
        spaces.Tuple([BOX, BOX]),
        spaces.Text(5),
        spaces.Sequence(BOX),
        spaces.Graph(BOX, None),
        spaces.Box(0, 255, (8, 8), np.uint8),
        spaces.Box(0, 5, (2,), np.int64),
        spaces.Box(-1.0, 1.0, (0,)),
        spaces.Box(-1.0, 1.0, (3, 0)),
    ],
    ids=str,
)
def test_other_spaces_are_refused_by_role_with_what_is_supported(space):
    for role, pair in (("observation", (space, BOX)), ("action", (BOX, space))):
        with pytest.raises(UnsupportedSpaceError, match=f"`{role}_space`") as caught:
            policy_spec(*pair)
        message = str(caught.value)
        assert str(space) in message
        assert "observations: Box" in message
        assert "actions: Box" in message
        assert isinstance(caught.value, ValueError)
