"""Options of the policy step: what each changes, what it leaves alone, its limits."""

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
from trpo.agent.make import load_backend
from trpo.data.batch import Batch
from trpo.data.report import StepStatus


both = pytest.mark.parametrize("backend", BACKENDS)


# Fisher products on a part of the samples.


def test_every_first_sample_is_all_of_them():
    assert fingerprint(updated(fisher_every=1)[0]) == fingerprint(updated()[0])


def test_of_repeated_samples_one_each_is_enough():
    twice = {name: np.repeat(array, 2, axis=0) for name, array in samples().items()}
    ours, all_of_them = updated(batch=twice, fisher_every=2), updated(batch=twice)
    np.testing.assert_allclose(
        policy_of(ours[0]), policy_of(all_of_them[0]), rtol=1e-3, atol=1e-5
    )
    # And of others it is not.
    change = policy_of(updated(fisher_every=2)[0]) - policy_of(updated()[0])
    assert abs(change).max() > 1e-3


def test_a_stride_beyond_the_batch_leaves_the_first_sample():
    _, report = updated(fisher_every=1000)
    assert report["policy/status"] in (
        StepStatus.ACCEPTED, StepStatus.LINE_SEARCH_EXHAUSTED
    )  # fmt: skip


@both
def test_a_recurrent_agent_refuses_a_part_of_its_samples(backend):
    with pytest.raises(ValueError, match=r"`fisher_every`: expected 1.*got 5\."):
        load_backend(backend).RecurrentTRPOAgent(
            3, 2, -1.0, 1.0, "cpu", (4,), (3,), fisher_every=5
        )


# An entropy bonus.


@both
def test_the_bonus_is_the_coefficient_times_the_mean_entropy(backend):
    objective, gaussian = (
        module(backend, name)
        for name in ("policy_step.objective", "distributions.gaussian")
    )
    generator = np.random.default_rng(0)

    def at(log_std):
        mean = generator.standard_normal((6, 2)).astype(np.float32)
        parts = (mean, np.float32([log_std]))
        return gaussian.DiagonalGaussian(*(native(backend, part) for part in parts))

    columns = (generator.standard_normal((6, 1)).astype(np.float32) for _ in range(3))
    actions = generator.standard_normal((6, 2)).astype(np.float32)
    batch = Batch(None, *(native(backend, array) for array in (actions, *columns)))
    old, new = at([0.2, -0.5]), at([0.25, -0.4])
    plain, with_it = objective.SURROGATE, objective.with_entropy(0.3)
    before = plain.value(old, batch)
    # Of log_std alone: a Gaussian's entropy is its sum and a constant.
    entropy = 0.2 - 0.5 + np.log(2.0 * np.pi * np.e)
    np.testing.assert_allclose(
        as_array(with_it.value(old, batch).value - before.value), 0.3 * entropy,
        rtol=1e-5,
    )  # fmt: skip
    gains = [o.improvement(old, new, batch, before.ratio) for o in (with_it, plain)]
    np.testing.assert_allclose(as_array(gains[0] - gains[1]), 0.3 * 0.15, rtol=1e-4)


def test_without_advantages_the_bonus_alone_is_followed():
    batch = samples() | {"advantages": np.zeros(40, np.float32)}
    agent, report = updated(batch=batch, entropy_coefficient=0.01)
    assert report["policy/status"] == StepStatus.ACCEPTED
    before, after = (a.get_state() for a in (make_agent("torch"), agent))
    change = after["policy.log_std"] - before["policy.log_std"]
    # The radius is KL's: -d + (exp(2d) - 1) / 2 twice, whose series begins with 2 d^2.
    np.testing.assert_allclose(change, np.sqrt(0.01 / 2.0), rtol=0.1)
    for name in (n for n in before if n.startswith("policy.layers")):
        np.testing.assert_array_equal(after[name], before[name])
    gained = 0.01 * change.sum()
    np.testing.assert_allclose(report["policy/improvement"], gained, rtol=1e-4)
    entropy = report["policy/entropy"]
    np.testing.assert_allclose(
        report["policy/surrogate_after"], 0.01 * entropy, rtol=1e-5
    )
