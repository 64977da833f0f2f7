"""The two-multiplier problem of constrained updates; see `dual_oracles.py`."""

import numpy as np
from hypothesis import given, settings, strategies as st

from parity_tests import dual_oracles
from parity_tests.tolerances import assert_parity


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), excess=st.floats(-2.0, 2.0), size=st.integers(2, 6))
def test_any_problem_is_solved_as_by_a_dense_program(seed, excess, size):
    problem = dual_oracles.random_problem(seed, excess, size)
    kinds = {dual_oracles.check_step(name, problem) for name in dual_oracles.SOLVE}
    assert len(kinds) == 1
    given_ = (*problem.scalars, problem.radius)
    ours, theirs = (np.array(solve(*given_)) for solve in dual_oracles.SOLVE.values())
    assert_parity("oracle/dual", ours, theirs)
