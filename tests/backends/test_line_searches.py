"""The search for the fraction of a step, and the step without one."""

import importlib

import numpy as np
import pytest

from tests.support.agents import (
    BACKENDS,
    as_array,
    backend_module as module,
    fingerprint,
    make_agent,
    native,
    policy_of,
    samples,
    updated,
)
from trpo.data.report import StepStatus


both = pytest.mark.parametrize("backend", BACKENDS)


def search_of(backend, kind, improvement, kl, target_kl=1.0):
    """Its result where improvement and KL are functions of the one parameter."""
    where = importlib.import_module("torch" if backend == "torch" else "jax.numpy")
    functions = module(backend, "solvers.line_search").LINE_SEARCHES

    def evaluate(theta):
        return improvement(theta[0], where), kl(theta[0], where)

    found = functions[kind](
        evaluate,
        native(backend, np.float32([1.0])),
        native(backend, np.float32([4.0])),
        target_kl=target_kl,
        backtrack_coeff=0.5,
        backtrack_iters=5,
    )
    return [float(as_array(x).reshape(-1)[0]) for x in found]


def candidates(kind):
    """(improvement, KL) of a problem, with the number of the candidate to be accepted.

    Candidates are 5, 3, 2, 1.5 and 1.25.
    """
    return {
        "the first": (lambda x, _: x - 1.0, lambda x, _: 0.0 * x, 0),
        "the third, by its KL": (lambda x, _: x - 1.0, lambda x, _: (x - 1.0) ** 2, 2),
        "the fourth, by its improvement":
            (lambda x, _: 1.7 - x, lambda x, _: 0.0 * x, 3),
        "the second, as the first overflows":
            (lambda x, where: x / where.where(x > 4.0, where.nan, 1.0),
             lambda x, _: 0.0 * x, 1),
        "none": (lambda x, _: -x, lambda x, _: 0.0 * x, -1),
    }[kind]  # fmt: skip


@both
@pytest.mark.parametrize(
    "problem",
    ["the first", "the third, by its KL", "the fourth, by its improvement",
     "the second, as the first overflows", "none"],
)  # fmt: skip
def test_the_first_good_candidate_is_accepted(backend, problem):
    improvement, kl, index = candidates(problem)
    theta, frac, gain, divergence, accepted, looked_at = search_of(
        backend, "sequential", improvement, kl
    )
    if index < 0:
        assert (theta, frac, gain, divergence, accepted) == (1.0, 0.0, 0.0, 0.0, 0.0)
        assert looked_at == 5
    else:
        want = 1.0 + 4.0 * 0.5**index
        assert (theta, frac, accepted, looked_at) == (want, 0.5**index, 1.0, index + 1)
        np.testing.assert_allclose(gain, improvement(want, np), rtol=1e-6)
        np.testing.assert_allclose(divergence, kl(want, np), rtol=1e-6)


@both
def test_without_a_search_the_full_step_is_taken_whatever_its_kl(backend):
    found = search_of(backend, "none", lambda x, _: -x, lambda x, _: x**2)
    assert found == [5.0, 1.0, -5.0, 25.0, 1.0, 1.0]


@both
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_without_a_search_a_step_that_overflows_is_not_taken(backend, bad):
    found = search_of(backend, "none", lambda x, _: x, lambda x, _: x * bad)
    assert found[:5] == [1.0, 0.0, 0.0, 0.0, 0.0]


@both
@pytest.mark.parametrize("kind", ["sequential", "none"])
def test_a_step_in_trouble_tries_nothing(backend, kind):
    off = {"torch": {"backtrack_iters": 0}, "jax": {"enabled": False}}[backend]
    found = module(backend, "solvers.line_search").LINE_SEARCHES[kind](
        lambda theta: (theta[0], 0.0 * theta[0]),
        native(backend, np.float32([1.0])),
        native(backend, np.float32([0.0])),
        **{"target_kl": 1.0, "backtrack_coeff": 0.5, "backtrack_iters": 5} | off,
    )
    assert not found.accepted
    assert int(found.num_candidates) == 0


@both
def test_an_update_in_trouble_takes_no_step_without_a_search(backend):
    flat = samples() | {"advantages": np.zeros_like(samples()["advantages"])}
    agent = make_agent(backend, line_search="none", normalize_advantages=False)
    before = policy_of(agent)
    report = agent.update(flat)
    assert report["policy/status"] == StepStatus.ZERO_GRADIENT
    for name in ("line_search_accepted", "line_search_frac", "kl", "improvement"):
        assert report[f"policy/{name}"] == 0.0
    np.testing.assert_array_equal(policy_of(agent), before)


def test_the_natural_gradient_s_direction_is_trpo_s():
    start = policy_of(make_agent("torch"))
    # So wide a region that the full step leaves it.
    natural, one = updated(line_search="none", target_kl=3.0)
    searched, other = updated(target_kl=3.0)
    assert one["policy/kl"] > 3.0
    assert one["policy/line_search_frac"] == 1.0
    frac = other["policy/line_search_frac"]
    assert 0.0 < frac < 1.0
    for name in ("policy/step_norm", "policy/expected_improve", "cg/residual"):
        assert one[name] == other[name]
    np.testing.assert_allclose(
        policy_of(searched) - start, frac * (policy_of(natural) - start),
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip


def test_where_the_full_step_is_good_the_search_ends_there():
    sequential, report = updated()
    assert report["policy/line_search_frac"] == 1.0
    assert fingerprint(updated(line_search="none")[0]) == fingerprint(sequential)
