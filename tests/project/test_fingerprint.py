"""The fingerprint of a refactoring: blind to names, and to nothing else."""

import jax
import jax.numpy as jnp
import pytest

from parity_tests.fingerprint import without_names


def text(function):
    return without_names(jax.jit(function).lower(jnp.ones(3), jnp.ones(3)).as_text())


def helper(x):
    return jnp.where(x > 0, 2.0 * x, -x)


def renamed(x):
    return jnp.where(x > 0, 2.0 * x, -x)


def original(first, second):
    return {"sum": jax.jit(helper)(first) + second}


def with_other_names(a, b):
    return {"total": jax.jit(renamed)(a) + b}


def with_another_constant(first, second):
    return {"sum": jax.jit(lambda x: jnp.where(x > 0, 2.5 * x, -x))(first) + second}


def with_another_operation(first, second):
    return {"sum": jax.jit(helper)(first) - second}


def with_operands_swapped(first, second):
    return {"sum": second + jax.jit(helper)(first)}


def test_names_do_not_count():
    assert text(original) == text(with_other_names)


@pytest.mark.parametrize(
    "changed", [with_another_constant, with_another_operation, with_operands_swapped]
)
def test_all_else_does(changed):
    assert text(original) != text(changed)
