"""Every bound fails when it should: a fault is planted, and the bound has to see it."""

import numpy as np
import pytest
import torch

from parity_kit.rings import ties
from parity_kit.tolerances import relative_error
from parity_tests import bridges
from parity_tests.common.tolerances import BOUNDS, assert_parity
from parity_tests.problems import cases
from parity_tests.reference import networks as reference
from parity_tests.rings import evidence, rings
from trpo_torch.distributions.gaussian import DiagonalGaussian
from trpo_torch.policy_step import fisher


@pytest.fixture(scope="module")
def trained():
    return evidence.gather("trained", 0)


def changed(item, framework, dtype, **values):
    """The evidence with some of one backend's results replaced."""
    stages = item.results[framework, dtype]
    stages = stages._replace(values={**stages.values, **values})
    return item._replace(results={**item.results, (framework, dtype): stages})


@pytest.mark.parametrize(("quantity", "dtype"), BOUNDS)
def test_each_bound_rejects_an_error_just_beyond_it(quantity, dtype):
    rng = np.random.default_rng(0)
    want = rng.standard_normal(1000)
    direction = rng.standard_normal(1000)
    direction *= np.linalg.norm(want) / np.linalg.norm(direction)
    bound = BOUNDS[quantity, dtype].value
    beyond = 1.5 * bound + 4.0 * np.finfo(dtype).eps
    got = (want + beyond * direction).astype(dtype)
    with pytest.raises(AssertionError, match="is not within"):
        assert_parity(quantity, got, want.astype(dtype))
    if bound > 4.0 * np.finfo(dtype).eps:
        within = (want + 0.5 * bound * direction).astype(dtype)
        assert_parity(quantity, within, want.astype(dtype))


def test_a_quantity_without_a_bound_can_t_be_compared():
    with pytest.raises(KeyError):
        assert_parity("mean", np.zeros(2, np.float32), np.zeros(2, np.float32))
    with pytest.raises(KeyError):
        assert_parity("unheard of", np.zeros(2), np.zeros(2))


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ([np.nan, 1.0], [np.nan, 1.0]),
        ([np.nan, 1.0], [0.0, 1.0]),
        ([0.0, 1.0], [np.nan, 1.0]),
        ([np.inf, 1.0], [np.inf, 1.0]),
    ],
)
def test_nan_never_passes(got, want):
    with np.errstate(invalid="ignore"), pytest.raises(AssertionError):
        assert_parity("mean", np.array(got), np.array(want))


def test_dtype_and_shape_are_compared():
    with pytest.raises(AssertionError, match="float32 against float64"):
        assert_parity("mean", np.zeros(2, np.float32), np.zeros(2))
    with pytest.raises(AssertionError, match="against"):
        assert_parity("mean", np.zeros((2, 1)), np.zeros(2))


def test_ring_a_rejects_each_stage_s_perturbation(trained):
    for quantity, want in trained.results["jax", "float64"].values.items():
        if not np.any(want):
            continue
        scale = trained.reference.scales.get(quantity, 0.0)
        shift = 1e-8 * max(np.linalg.norm(want), scale) / np.sqrt(want.size)
        rows = rings.identity(
            changed(trained, "jax", "float64", **{quantity: want + shift})
        )
        assert {row.quantity for row in rows if not row.ok} == {quantity}


def test_ring_b_calls_tf32_unstable(trained):
    """Layers rounded to TF32's 11 bits: thousands of times float32's error."""
    exact = trained.reference.values["mean"]
    noise = reference.rounding_noise(1, 2.0**-11)
    wrong = changed(trained, "jax", "float32", mean=noise(exact).astype(np.float32))
    bad = {
        row.quantity for row in rings.precision([wrong]) if row.note.startswith("unst")
    }
    assert bad == {"mean"}


def test_ring_b_calls_the_usual_kl_unstable():
    item = evidence.gather("kl_1e-8", 0)
    teacher = bridges.teacher_of("kl_1e-8", 0)
    mean, log_std, new_mean, new_log_std = (np.float32(a) for a in teacher[:4])
    square = np.exp(2 * log_std) + (mean - new_mean) ** 2
    usual = new_log_std - log_std + square / (2 * np.exp(2 * new_log_std))
    kl = (usual - np.float32(0.5)).sum(-1, keepdims=True, dtype=np.float32)
    bad = rings.precision([changed(item, "torch", "float32", kl=kl)])
    assert "kl" in {row.quantity for row in bad if row.note == "unstable formula"}


def test_ring_b_calls_exact_results_vacuous(trained):
    exact = np.asarray(trained.reference.values["gradient"])
    perfect = exact + 1e-3 * (
        trained.results["jax", "float32"].values["gradient"] - exact
    )
    # As float64, so that the result can be better than float32 allows.
    item = changed(trained, "jax", "float32", gradient=perfect)
    rows = [row for row in rings.precision([item]) if row.quantity == "gradient"]
    assert any(not row.ok for row in rows)


def test_ring_c_rejects_one_backend_s_larger_error(trained):
    exact = trained.reference.values["gradient"]
    got = trained.results["jax", "float32"].values["gradient"]
    worse = exact + 10.0 * (got - exact)
    item = changed(trained, "jax", "float32", gradient=worse)
    # One problem alone says little about other quantities: only this one's row counts.
    before, after = (
        {row.quantity: row.ok for row in rings.fairness([subject])}["gradient"]
        for subject in (trained, item)
    )
    assert before
    assert not after


@pytest.mark.parametrize(
    ("decision", "value"),
    [("update/status", 1), ("update/index", 3), ("update/accepted", 0),
     ("update/cg_iterations", 9), ("cg/iterations", 9), ("line_search/index", 3)],
)  # fmt: skip
def test_ring_d_rejects_another_decision(trained, decision, value):
    key = ("torch", "float64")
    stages = trained.results[key]
    decisions = {**stages.decisions, decision: value}
    results = {**trained.results, key: stages._replace(decisions=decisions)}
    rows = rings.decisions(trained._replace(results=results))
    assert decision in {row.quantity for row in rows if not row.ok}


def test_ring_d_bounds_the_ties():
    row = rings.Row("D", "x", "cg/iterations", "jax-float32", 1.0, 2.0, True, "tie")
    equal = row._replace(note="")
    assert ties([row] + [equal] * 99)[2]
    assert not ties([row] * 6 + [equal] * 94)[2]


def planted_products():
    """Name -> a wrong (F + damping) v of the torch backend."""

    def half(policy, theta, damping):
        right = fisher.gauss_newton_product(policy, theta, 0.0)
        return lambda v: 0.5 * right(v) + damping * v

    def undamped(policy, theta, damping):
        return fisher.gauss_newton_product(policy, theta, 0.0)

    def slightly_damped(policy, theta, damping):
        return fisher.gauss_newton_product(policy, theta, damping * (1 + 1e-7))

    return {"half": half, "undamped": undamped, "slightly damped": slightly_damped}


@pytest.mark.parametrize("fault", planted_products())
def test_the_fisher_bound_rejects(fault, monkeypatch):
    monkeypatch.setitem(
        fisher.FISHER_PRODUCTS, "gauss_newton", planted_products()[fault]
    )
    problem, teacher = cases.build("trained"), bridges.teacher_of("trained", 0)
    wrong = bridges.run("torch", problem, teacher, "float64")
    want = evidence.gather("trained", 0).reference.values["fisher/gauss_newton"]
    with pytest.raises(AssertionError, match="fisher/gauss_newton"):
        assert_parity("fisher/gauss_newton", wrong.values["fisher/gauss_newton"], want)


@pytest.mark.parametrize("fault", ["reversed", "averaged", "doubled"])
def test_the_kl_bound_rejects(fault):
    rng = np.random.default_rng(1)
    old, new = (
        DiagonalGaussian(*(torch.tensor(a) for a in pair))
        for pair in rng.standard_normal((2, 2, 5, 3))
    )
    right = old.kl(new)
    wrong = {
        "reversed": new.kl(old),
        "averaged": right / 3.0,
        "doubled": 2.0 * right,
    }[fault]
    assert relative_error(wrong.numpy(), right.numpy()) > 0.1
    with pytest.raises(AssertionError):
        assert_parity("kl", wrong.numpy(), right.numpy())
