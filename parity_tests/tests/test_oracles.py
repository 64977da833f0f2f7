"""Each backend against what knows the answer; see `parity_tests/oracles/`."""

import numpy as np
import pytest

from parity_tests import oracles
from parity_tests.common.tolerances import assert_parity
from parity_tests.oracles import (
    constrained as constrained_oracles,
    failures,
    metamorphic,
    recurrent as recurrent_oracles,
    shared_parts as shared_oracles,
)


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("check", oracles.CHECKS)
def test_a_backend_is_right(check, framework):
    oracles.CHECKS[check](framework)


@pytest.mark.parametrize("check", shared_oracles.CHECKS)
def test_a_shared_part_is_right(check):
    shared_oracles.CHECKS[check]()


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_cg_is_lineax_s(framework):
    # Not one of the pinned dependencies, unlike the frameworks themselves.
    lineax = pytest.importorskip("lineax")
    import jax

    a, b = oracles._positive_definite(20)
    module = oracles.torch_cg if framework == "torch" else oracles.jax_cg
    matrix = oracles.to_backend(framework, a)
    got = module.conjugate_gradient(
        lambda v: matrix @ v, oracles.to_backend(framework, b), 40, 1e-24
    ).x
    operator = lineax.MatrixLinearOperator(
        jax.numpy.asarray(a), lineax.positive_semidefinite_tag
    )
    solver = lineax.CG(rtol=1e-12, atol=1e-12)
    want = lineax.linear_solve(operator, jax.numpy.asarray(b), solver).value
    assert_parity("oracle/cg", oracles.to_numpy(got), np.array(want))


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("check", constrained_oracles.CHECKS)
def test_a_constrained_backend_is_right(check, framework):
    constrained_oracles.CHECKS[check](framework)


@pytest.mark.parametrize("check", constrained_oracles.SHARED)
def test_constrained_backends_are_equal(check):
    constrained_oracles.SHARED[check]()


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("check", recurrent_oracles.CHECKS)
def test_a_recurrent_backend_is_right(check, framework):
    recurrent_oracles.CHECKS[check](framework)


@pytest.mark.parametrize("check", recurrent_oracles.SHARED)
def test_what_recurrent_backends_share_is_right(check):
    recurrent_oracles.SHARED[check]()


@pytest.mark.parametrize("check", failures.CHECKS)
def test_both_backends_fail_alike_and_change_nothing(check):
    failures.CHECKS[check]()


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("check", metamorphic.CHECKS)
def test_a_transformed_problem_has_the_transformed_answer(check, framework):
    metamorphic.CHECKS[check](framework)
