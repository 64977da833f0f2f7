"""Planted faults: all kinds are found in either framework, and they matter."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from parity_kit.faults import jax_faults, torch_faults
from parity_kit.faults.fault import KINDS, STOPPED, drawn


RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.standard_normal((4, 4)), "b": RNG.standard_normal(4),
    "v": RNG.standard_normal((4, 2)),
}  # fmt: skip
X = RNG.standard_normal((6, 4))


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def torch_side(weights, x):
    h = x @ weights["w"] + weights["b"]
    h = (h - h.mean(1, keepdim=True)) / torch.sqrt(h.var(1, keepdim=True) + 1e-5)
    y = torch.nn.functional.gelu(h, approximate="tanh") @ weights["v"]
    p = torch.softmax(y, 1)
    loss = (p * (y.detach() - y.exp())).sum(0).mean()
    return loss + (y.T.reshape(6, 2) * y).sum()


def jax_side(weights, x):
    h = x @ weights["w"] + weights["b"]
    centered = h - h.mean(1, keepdims=True)
    h = centered / jnp.sqrt(jnp.square(centered).sum(1, keepdims=True) / 3 + 1e-5)
    y = jax.nn.gelu(h) @ weights["v"]
    p = jax.nn.softmax(y, 1)
    loss = (p * (lax.stop_gradient(y) - jnp.exp(y))).sum(0).mean()
    return loss + (y.T.reshape(6, 2) * y).sum()


def torch_results(fault=None):
    weights = {n: torch.tensor(a, requires_grad=True) for n, a in WEIGHTS.items()}
    x = torch.tensor(X)
    if fault is None:
        loss = torch_side(weights, x)
    else:
        with torch_faults.planted(fault):
            loss = torch_side(weights, x)
    loss.backward()
    grads = [w.grad if w.grad is not None else w * 0 for w in weights.values()]
    return np.concatenate([np.ravel(t.detach()) for t in [loss, *grads]])


def jax_results(fault=None, function=jax_side):
    weights = {n: jnp.asarray(a) for n, a in WEIGHTS.items()}
    chosen = function if fault is None else jax_faults.planted(function, fault)
    # Traced anew, and compiled quickly: a few numbers are all it computes.
    quick = {"xla_backend_optimization_level": 0}
    run = jax.jit(jax.value_and_grad(chosen), compiler_options=quick)
    found = run(weights, jnp.asarray(X))
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(found)])


SIDES = {
    "torch": (
        torch_results,
        lambda: torch_faults.places(
            torch_side,
            {n: torch.tensor(a, requires_grad=True) for n, a in WEIGHTS.items()},
            torch.tensor(X),
        ),
    ),
    "jax": (jax_results, lambda: jax_faults.places(jax_side, WEIGHTS, X)),
}


@pytest.mark.parametrize("side", SIDES)
def test_every_kind_is_found_and_changes_results_or_gradients(side):
    results, places = SIDES[side]
    exact, faults = results(), places()
    kinds = Counter(fault.kind for fault in faults)
    assert set(kinds) == set(KINDS)
    again = places()
    assert faults == again, "the same places each time"
    for fault in drawn(faults, 15, seed=1):
        error = np.abs(results(fault) - exact).max()
        if not _cancels(fault):
            assert error > 1e-9, fault
    np.testing.assert_array_equal(results(), exact, "nothing stays planted")


def _cancels(fault):
    """A softmax divides by its own sum: a factor of its exponentials has no effect."""
    return fault.kind.startswith("factor") and fault.place.startswith("exp ")


def test_a_place_names_the_operation_and_its_line():
    for _, places in SIDES.values():
        stopped = [f for f in places() if f.kind == STOPPED]
        assert len(stopped) == 1
        assert "test_faults.py:" in stopped[0].place


def test_drawing_takes_each_kind_in_turn_and_depends_on_the_seed_alone():
    faults = SIDES["jax"][1]()
    assert len({f.kind for f in drawn(faults, len(KINDS))}) == len(KINDS)
    assert drawn(faults, 20, 3) == drawn(faults, 20, 3)
    assert drawn(faults, 20, 3) != drawn(faults, 20, 4)
    assert len(drawn(faults, 10**6)) == len(set(drawn(faults, 10**6))) == len(faults)


def test_no_grad_is_a_stopped_gradient_in_torch():
    w = torch.tensor([2.0], requires_grad=True)

    def function(w):
        with torch.no_grad():
            base = w * 3
        return (w * base).sum()

    fault = next(f for f in torch_faults.places(function, w) if f.kind == STOPPED)
    with torch_faults.planted(fault):
        function(w).backward()
    assert w.grad == 12.0  # d(3 w²), not 3 w
    assert torch.is_grad_enabled()


def test_faults_within_loops_branches_and_compiled_functions():
    def function(weights, x):
        y = jax.jit(lambda v: v @ weights["w"])(x)
        y, _ = lax.scan(lambda c, _: (jnp.tanh(c), None), y, None, length=3)
        y = lax.cond(y[0, 0] > 100, jnp.sin, lambda v: v * 1.5, y)
        y = lax.fori_loop(0, 2, lambda _, v: jnp.cos(v), y)
        return jax.nn.silu(y).sum()

    exact = jax_results(function=function)
    names, wanted = set(), {"dot_general", "tanh", "mul", "cos"}
    for fault in jax_faults.places(function, WEIGHTS, X):
        if fault.kind == "factor of 1.01" and fault.place.split()[0] in wanted:
            names.add(fault.place.partition(" ")[0])
            assert np.abs(jax_results(fault, function) - exact).max() > 1e-6, fault
    assert names == wanted
