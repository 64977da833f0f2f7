"""Constrained updates against what knows the answer; see `oracles/constrained.py`."""

import pytest

from parity_tests.oracles import constrained as constrained_oracles


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("check", constrained_oracles.CHECKS)
def test_a_constrained_backend_is_right(check, framework):
    constrained_oracles.CHECKS[check](framework)


@pytest.mark.parametrize("check", constrained_oracles.SHARED)
def test_constrained_backends_are_equal(check):
    constrained_oracles.SHARED[check]()
