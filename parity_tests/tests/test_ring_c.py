"""Ring C: neither backend's float32 is the worse one by more than a factor of four."""

import pytest

from parity_tests.common.tolerances import FAIRNESS
from parity_tests.rings import evidence, rings


SEEDS = 3


@pytest.fixture(scope="module")
def rows():
    return rings.ring_c(evidence.gather_all(evidence.test_cases(), SEEDS))


def test_every_quantity_is_as_accurate_in_both_backends(rows):
    assert len(rows) >= 35
    unfair = [row for row in rows if not row.ok]
    assert not unfair
    assert all(FAIRNESS[0] <= row.value <= FAIRNESS[1] for row in rows)
