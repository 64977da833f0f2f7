"""The two-multiplier problem of constrained updates."""

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from parity_tests.common.tolerances import assert_parity
from parity_tests.oracles import constrained_dual as dual_oracles


# Excess at which the region touches the limit's plane: rounding decides whether a step
# keeps it.
BORDER = 1.0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), excess=st.floats(-2.0, 2.0), size=st.integers(2, 6))
def test_any_problem_is_solved_as_by_a_dense_program(seed, excess, size):
    assume(abs(excess - BORDER) > 1e-12)
    problem = dual_oracles.random_problem(seed, excess, size)
    kinds = {dual_oracles.check_step(name, problem) for name in dual_oracles.SOLVE}
    assert len(kinds) == 1
    torch_multipliers, jax_multipliers = (
        np.array(solve(*problem.scalars, problem.radius))
        for solve in dual_oracles.SOLVE.values()
    )
    assert_parity("oracle/dual", torch_multipliers, jax_multipliers)


@pytest.mark.parametrize("name", dual_oracles.SOLVE)
@pytest.mark.parametrize("seed", range(20))
def test_at_the_border_the_one_step_there_is_is_taken_either_way(seed, name):
    problem = dual_oracles.random_problem(seed, BORDER, 2 + seed % 5)
    of_gradient, of_cost, *_ = dual_oracles.SOLVE[name](
        *problem.scalars, problem.radius
    )
    step = problem.step(of_gradient, of_cost)
    want = problem.step(0.0, -np.sqrt(2.0 * problem.radius / problem.scalars[2]))
    # A root of what rounding leaves of zero: half of float64's digits.
    np.testing.assert_allclose(step, want, atol=1e-6 * np.linalg.norm(want))
