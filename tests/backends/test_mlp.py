"""PyTorch's derivatives by hand, against automatic ones, whole and in chunks."""

import itertools

import numpy as np
import pytest
import torch

from tests.support.product_library import force_library
from trpo.data.batch import Batch
from trpo_torch import TRPOAgent as TorchAgent
from trpo_torch.agent.agent import _flat_params
from trpo_torch.networks import mlp as torch_mlp
from trpo_torch.policy_step import fisher as torch_fisher
from trpo_torch.policy_step.flat_policy import FlatPolicy as TorchPolicy


ROWS = 103  # A prime: no chunk size but 1 divides it.
LAYERS = [(5,), (8, 4), (4, 7, 6)]


@pytest.fixture(params=[1, 26, 103, 1000])
def chunk_size(request, monkeypatch):
    """Bound of a chunk's rows."""
    widest = 8
    monkeypatch.setattr(torch_mlp, "CHUNK_ENTRIES", request.param * widest)
    return request.param


def problem(layers, act_dim=2):
    """Observations, a direction in the parameters, and actions."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((ROWS, 3)).astype(np.float32)
    sizes = (3, *layers, act_dim)
    size = act_dim + sum((i + 1) * o for i, o in itertools.pairwise(sizes))
    v = rng.standard_normal(size).astype(np.float32)
    return obs, v, rng.standard_normal((ROWS, act_dim)).astype(np.float32)


def torch_pair(layers):
    """The policy with a Jacobian by hand, as any function, theta, and a direction."""
    obs, v, _ = map(torch.from_numpy, problem(layers))
    agent = TorchAgent(3, 2, -1, 1, "cpu", layers, layers, initial_log_std=0.3)
    policy = TorchPolicy(agent.policy, obs)
    return torch_fisher, policy, _flat_params(agent.policy) * 3.0, v


def same_metric(fisher, policy, theta, v):
    ours = fisher.metric_product(policy, theta)(v)
    theirs = fisher.metric_product(lambda t: policy(t), theta)(v)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_the_same_by_onednn(layers, chunk_size, monkeypatch):
    force_library(monkeypatch, onednn=True)
    same_metric(*torch_pair(layers))


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_the_metric_by_hand_is_that_of_automatic_derivatives(layers, chunk_size):
    same_metric(*torch_pair(layers))


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_a_gradient_by_hand_is_the_automatic_one(
    layers, onednn, chunk_size, monkeypatch
):
    force_library(monkeypatch, onednn=onednn)
    _, policy, theta, _ = torch_pair(layers)
    actions = torch.from_numpy(problem(layers)[2])

    def mean_log_prob(at):
        return at.log_prob(actions).mean()

    at, gradient = policy.gradient(theta, mean_log_prob)
    leaf = theta.clone().requires_grad_()
    expected = policy(leaf)
    (automatic,) = torch.autograd.grad(mean_log_prob(expected), leaf)
    np.testing.assert_allclose(gradient, automatic, rtol=1e-4, atol=1e-5)
    for field, other in zip(at, expected, strict=True):
        assert not field.requires_grad
        np.testing.assert_allclose(field, other.detach(), rtol=1e-4, atol=1e-6)


def test_a_gradient_by_hand_of_a_function_of_log_std_alone():
    _, policy, theta, _ = torch_pair((4,))
    _, gradient = policy.gradient(theta, lambda at: at.entropy().mean())
    np.testing.assert_array_equal(gradient, [1.0, 1.0] + [0.0] * (len(theta) - 2))


def test_what_was_recorded_is_not_used_at_other_parameters():
    fisher, policy, theta, v = torch_pair((4,))
    policy.gradient(theta, lambda at: at.mode().sum())
    theta *= 0.5
    same_metric(fisher, policy, theta, v)
    same_metric(fisher, policy, theta * 0.5, v)


def torch_derivatives(arrays, tangents, obs, u):
    """J v and J'u of a network: by hand, and automatic."""
    given = [torch.from_numpy(array) for array in (*arrays, *tangents, obs, u)]
    *both, obs, u = given
    arrays, tangents = tuple(both[: len(arrays)]), tuple(both[len(arrays) :])

    def outputs(*arrays):
        return torch_mlp.forward(torch_mlp.layers_of(arrays), obs)[-1]

    layers = torch_mlp.layers_of(arrays)
    _, tape = torch_mlp.record(layers, obs)
    pushed = torch_mlp.push(layers, tape.inputs, torch_mlp.layers_of(tangents))
    pulled = [torch.empty_like(array) for array in arrays]
    into = torch_mlp.layers_of(pulled)
    torch_mlp.pull(layers, tape.inputs, u, into, transposed=tape.transposed)
    automatic = torch.func.jvp(outputs, arrays, tangents)[1]
    return [pushed, *pulled], [automatic, *torch.func.vjp(outputs, *arrays)[1](u)]


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_derivatives_by_hand_are_the_automatic_ones(layers, chunk_size):
    rng = np.random.default_rng(0)
    shapes = [
        shape
        for i, o in itertools.pairwise((3, *layers, 2))
        for shape in ((o, i), (o,))
    ]
    arrays, tangents, (obs, u) = (
        [rng.standard_normal(shape).astype(np.float32) for shape in some]
        for some in (shapes, shapes, ((ROWS, 3), (ROWS, 2)))
    )
    by_hand, automatic = torch_derivatives(arrays, tangents, obs, u)
    for ours, theirs in zip(by_hand, automatic, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def update():
    rng = np.random.default_rng(0)
    obs, _, actions = problem((8, 4))
    log_probs = -0.5 * (actions**2 + np.log(2 * np.pi)).sum(1, keepdims=True)
    returns, advantages = rng.standard_normal((2, ROWS, 1)).astype(np.float32)
    agent = TorchAgent(3, 2, -1, 1, "cpu", (8, 4), (8, 4))
    agent.update(Batch(obs, actions, log_probs, returns, advantages))
    return agent.get_state()


def test_an_update_in_chunks_is_that_of_the_whole_batch(monkeypatch):
    whole = update()
    monkeypatch.setattr(torch_mlp, "CHUNK_ENTRIES", 10 * 8)
    in_chunks = update()
    assert whole.keys() == in_chunks.keys()
    for name, array in whole.items():
        np.testing.assert_allclose(array, in_chunks[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 5, 1000, 2**20 + 1])
@pytest.mark.parametrize("width", [1, 64, 5000, 2**20])
def test_chunks_hold_at_least_a_row_and_few_entries(rows, width):
    size = torch_mlp.chunk_rows(rows, width)
    assert 1 <= size <= rows
    assert size == 1 or size * width <= 2 * torch_mlp.CHUNK_ENTRIES
