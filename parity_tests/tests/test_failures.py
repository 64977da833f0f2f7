"""Failure parity; see `oracles/failures.py`."""

import pytest

from parity_tests.oracles import failures


@pytest.mark.parametrize("check", failures.CHECKS)
def test_both_backends_fail_alike_and_change_nothing(check):
    failures.CHECKS[check]()
