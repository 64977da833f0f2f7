"""Known answers without an oracle; see `oracles/metamorphic.py`."""

import pytest

from parity_tests.oracles import metamorphic


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("check", metamorphic.CHECKS)
def test_a_transformed_problem_has_the_transformed_answer(check, framework):
    metamorphic.CHECKS[check](framework)
