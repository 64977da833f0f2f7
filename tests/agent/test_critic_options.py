"""What the critic's options do to an agent; the fits themselves: `parity_tests`."""

import numpy as np
import pytest

from tests.support.agents import BACKENDS, fingerprint, make_agent
from trpo.data.report import StepStatus


OPTIONS = {
    "gauss_newton": {"value_fit": "gauss_newton"},
    "lbfgs": {"value_fit": "lbfgs", "value_loss": "huber", "value_clip": 2.0},
}


def samples(agent, size=64):
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((size, 3)).astype(np.float32)
    actions, log_probs, _ = agent.act(obs)
    return {
        "obs": obs, "actions": actions, "log_probs": log_probs,
        "returns": np.tanh(obs[:, 0]) - obs[:, 1], "advantages": obs[:, 2],
    }  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_fit_on_the_whole_batch_learns_and_leaves_the_optimiser_alone(
    backend, options
):
    # A checkpoint of an agent that Adam has fitted goes on with another fit.
    adam = make_agent("torch", value_epochs=3, value_lr=1e-3)
    batch = samples(adam)
    before = adam.update(batch)["value/mae"]
    agent = make_agent(backend, value_epochs=10, **options)
    agent.set_state(adam.get_state())
    kept = {n: v for n, v in fingerprint(agent).items() if "optimizer" in n}
    for _ in range(3):
        metrics = agent.update(batch)
        assert np.isfinite(list(metrics.values())).all()
    assert metrics["value/mae"] < 0.3 * before
    assert metrics["value/explained_variance"] > 0.9
    after = fingerprint(agent)
    assert {name: after[name] for name in kept} == kept
    # And back, in either backend.
    for other in BACKENDS:
        make_agent(other).set_state(agent.get_state())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_fit_whose_loss_overflows_is_undone(backend, options):
    agent = make_agent(backend, value_epochs=10, **options)
    batch, before = samples(agent), fingerprint(agent)
    # Twice it is beyond float32, as is its square.
    metrics = agent.update(batch | {"returns": np.full(64, 3e38)})
    assert metrics["policy/status"] == StepStatus.NON_FINITE
    assert fingerprint(agent) == before
    # It goes on as if nothing had happened.
    assert agent.update(batch)["policy/status"] == StepStatus.ACCEPTED
