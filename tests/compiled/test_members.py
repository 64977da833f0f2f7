"""Members of a compiled run: how many there may be, and what they are called."""

import pytest

from trpo.config.run import TrainConfig
from trpo.runs.members import members_of


@pytest.mark.parametrize(
    ("seeds", "sweep", "message"),
    [
        (2**62, {}, "`num_seeds`: expected an integer of at most"),
        (True, {}, "`num_seeds`: expected an integer"),
        (2.0, {}, "`num_seeds`: expected an integer"),
        (1000, {"gamma": [0.9] * 1000}, "`sweep`: expected at most 10,000 members"),
        (1, {"gamma": [0.9, 0.9 + 1e-9]}, "`sweep`: expected values that differ"),
        (1, {"gamma": [3.0]}, "`gamma`: expected"),
        (1, {"sgd_momentum": [0.0, 0.9]}, "`sgd_momentum`: expected .* one program"),
        (1, {"entropy_coefficient": [0.01, 0.0]}, "`entropy_coefficient`: expected"),
    ],
)
def test_members_that_are_too_many_or_alike_are_refused_at_once(seeds, sweep, message):
    with pytest.raises(ValueError, match=message):
        members_of(TrainConfig(env_id="E"), seeds, sweep)


def test_each_combination_has_each_seed():
    members = members_of(TrainConfig(env_id="E", seed=3), 2, {"gamma": [0.9, 0.99]})
    assert [member.name for member in members] == [
        "gamma=0.9,seed=3", "gamma=0.9,seed=4", "gamma=0.99,seed=3", "gamma=0.99,seed=4"
    ]  # fmt: skip
