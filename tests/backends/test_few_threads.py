"""PyTorch uses one thread where there is little to compute, and only there."""

import numpy as np
import pytest
import torch

from trpo_torch import RecurrentTRPOAgent, TRPOAgent


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_of(agent, rows, raises=False):
    """Threads of each forward pass of the policy while `act` is asked."""
    policy, seen = agent.backend.policy, []
    original = policy.forward

    def forward(*arguments):
        seen.append(torch.get_num_threads())
        if raises:
            raise FloatingPointError
        return original(*arguments)

    policy.forward = forward
    try:
        agent.act(np.zeros((rows, 3), np.float32))
    finally:
        policy.forward = original
        assert torch.get_num_threads() == 2
    return seen


@pytest.mark.parametrize("kind", [TRPOAgent, RecurrentTRPOAgent])
def test_few_observations_have_one_thread_and_many_have_all(kind):
    agent = kind(3, 1, -1.0, 1.0, "cpu", (64, 64), (64, 64))
    assert set(threads_of(agent, 8)) == {1}
    assert set(threads_of(agent, 4096)) == {2}


@pytest.mark.parametrize(
    ("samples", "minibatch", "threads"),
    [(64, 0, [1, 1]), (4096, 64, [2, 1]), (4096, 0, [2, 2])],
)
def test_steps_and_fits_of_little_work_have_one_thread(
    samples, minibatch, threads, monkeypatch
):
    sizes = (64, 64), (64, 64)
    options = {"value_minibatch_size": minibatch, "value_epochs": 1}
    agent = TRPOAgent(3, 1, -1.0, 1.0, "cpu", *sizes, **options)
    seen = []

    def watched(original):
        def call(*arguments):
            seen.append(torch.get_num_threads())
            return original(*arguments)

        return call

    for name in ("_step", "_fit_critic"):
        monkeypatch.setattr(agent.backend, name, watched(getattr(agent.backend, name)))
    rows = np.random.default_rng(3).normal(size=(samples, 3)).astype(np.float32)
    columns = dict.fromkeys(("log_probs", "returns", "advantages"), rows[:, 0])
    agent.update({"obs": rows, "actions": rows[:, :1], **columns})
    assert seen == threads
    assert torch.get_num_threads() == 2


def test_the_threads_are_back_after_an_error():
    agent = TRPOAgent(3, 1, -1.0, 1.0, "cpu", (64, 64), (64, 64))
    with pytest.raises(FloatingPointError):
        threads_of(agent, 8, raises=True)


def test_of_networks_whose_work_is_unknown_nothing_is_changed():
    network = torch.nn.Sequential(torch.nn.Linear(3, 1))
    agent = TRPOAgent(
        3, 1, -1.0, 1.0, "cpu", (64, 64), (64, 64), policy_network=network
    )
    assert set(threads_of(agent, 8)) == {2}
