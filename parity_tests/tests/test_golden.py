"""Both backends are the original agent: its recorded vectors, reproduced."""

import numpy as np
import pytest

from parity_tests.oracles import golden as golden_checks
from parity_tests.problems import golden


CASES = pytest.mark.parametrize("name", golden.names())
BOTH = pytest.mark.parametrize("framework", ["torch", "jax"])


@BOTH
@CASES
def test_stages_of_the_first_update_are_the_original_s(framework, name):
    golden_checks.check_stages(framework, name)


@BOTH
@CASES
def test_updates_are_the_original_s(framework, name):
    golden_checks.check_updates(framework, name)


@BOTH
@CASES
def test_cg_with_the_original_s_epsilons_is_the_original_s(framework, name):
    golden_checks.check_cg(framework, name)


def test_a_recorded_vector_is_not_trivially_zero():
    update = golden.load("gauss_cheetah_f64").updates[0]
    assert np.linalg.norm(update.recorded["cg_solution"]) > 0
    assert np.linalg.norm(update.recorded["nearby_kl"]) > 0
