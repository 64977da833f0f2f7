"""Ring D: the same decisions, but for ties that float64 can show to be ties."""

import pytest

from parity_tests.problems import cases
from parity_tests.rings import evidence, rings


SEEDS = 3


@pytest.mark.parametrize("name", evidence.test_cases())
def test_decisions_are_equal_or_too_close_to_call(name, device):
    if not cases.BY_NAME[name].updates:
        assert not evidence.gather(name, 0, device).truth.decisions
        return
    for seed in evidence.seeds_of(cases.BY_NAME[name], SEEDS):
        rows = rings.ring_d(evidence.gather(name, seed, device))
        assert len(rows) >= 4 * 6
        assert not [row for row in rows if not row.ok]


def test_ties_are_rare():
    found = evidence.gather_all(evidence.test_cases(), SEEDS)
    rows = [row for item in found for row in rings.ring_d(item)]
    count, total, few = rings.ties(rows)
    assert few, f"{count} ties in {total} decisions"


def test_the_grid_takes_every_kind_of_decision():
    found = evidence.gather_all(evidence.test_cases(), 1)
    statuses = {item.truth.decisions.get("update/status") for item in found}
    indices = {item.truth.decisions.get("update/index") for item in found}
    assert {0, 1, 4} <= statuses
    assert {-1, 0, 1} <= indices
