"""Ring B: each backend's float32 error is what float32 rounding predicts."""

import pytest

from parity_tests.common.tolerances import UNSTABLE, VACUOUS
from parity_tests.rings import evidence, rings


SEEDS = 3


@pytest.fixture(scope="module")
def rows():
    return rings.ring_b(evidence.gather_all(evidence.test_cases(), SEEDS))


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_no_case_has_an_unstable_formula(rows, framework):
    own = [row for row in rows if row.subject == framework and row.case != "all"]
    assert len(own) > 500
    assert not [row for row in own if not row.ok]
    assert max(row.value for row in own) <= UNSTABLE


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_no_quantity_s_test_is_vacuous(rows, framework):
    own = [row for row in rows if row.subject == framework and row.case == "all"]
    assert not [row for row in own if not row.ok]
    assert min(row.value for row in own) >= VACUOUS


def test_noise_of_twice_the_size_makes_twice_the_spread():
    from parity_tests import bridges
    from parity_tests.problems import cases
    from parity_tests.reference import all_stages as truth, networks as reference

    problem, teacher = cases.build("trained", 0), bridges.teacher_of("trained", 0)
    exact = truth.run(problem, teacher)
    spreads = []
    for unit in (2.0**-30, 2.0**-29):
        noise = reference.rounding_noise(0, unit)
        run = truth.run(problem, teacher, noise, exact.decisions)
        spreads.append(abs(run.values["gradient"] - exact.values["gradient"]).sum())
    assert spreads[1] == pytest.approx(2.0 * spreads[0], rel=1e-5)
