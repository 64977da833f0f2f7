"""Recurrent agents against what knows the answer; see `oracles/recurrent.py`."""

import pytest

from parity_tests.oracles import recurrent as recurrent_oracles


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("check", recurrent_oracles.CHECKS)
def test_a_recurrent_backend_is_right(check, framework):
    recurrent_oracles.CHECKS[check](framework)


@pytest.mark.parametrize("check", recurrent_oracles.SHARED)
def test_what_recurrent_backends_share_is_right(check):
    recurrent_oracles.SHARED[check]()
