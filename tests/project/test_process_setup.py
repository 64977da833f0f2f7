"""The parity suite's process: room for what JAX compiles."""

import jax
import jax.numpy as jnp

from parity_tests.common import process_setup as environment


def test_compiled_programs_are_dropped_before_there_is_no_room(monkeypatch):
    traces = []

    @jax.jit
    def double(x):
        traces.append(x)
        return x + x

    double(jnp.ones(3))
    monkeypatch.setattr(environment, "MOST_MAPPINGS", 10**9)
    assert not environment.drop_compiled_programs()
    assert double(jnp.ones(3)).tolist() == [2.0, 2.0, 2.0]
    assert len(traces) == 1
    monkeypatch.setattr(environment, "MOST_MAPPINGS", 1)
    assert environment.drop_compiled_programs()
    assert double(jnp.ones(3)).tolist() == [2.0, 2.0, 2.0]
    assert len(traces) == 2
