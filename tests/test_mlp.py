"""The networks' derivatives by hand, against automatic ones, whole and in chunks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.flatten_util import ravel_pytree

from trpo import chunks
from trpo.types import Batch
from trpo_jax import TRPOAgent as JaxAgent, fisher as jax_fisher
from trpo_jax.flat_policy import FlatPolicy as JaxPolicy
from trpo_torch import TRPOAgent as TorchAgent, fisher as torch_fisher
from trpo_torch.agent import _flat_params
from trpo_torch.flat_policy import FlatPolicy as TorchPolicy


ROWS = 103  # A prime: no chunk size but 1 divides it.
LAYERS = [(5,), (8, 4), (4, 7, 6)]


@pytest.fixture(params=[1, 26, 103, 1000])
def chunk_size(request, monkeypatch):
    """Bound of a chunk's rows."""
    widest = 8
    monkeypatch.setattr(chunks, "CHUNK_ENTRIES", request.param * widest)
    return request.param


def problem(layers, act_dim=2):
    """Observations, a probe of the parameters' size and one of the outputs'."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((ROWS, 3)).astype(np.float32)
    sizes = (3, *layers, act_dim)
    size = act_dim + sum((i + 1) * o for i, o in itertools.pairwise(sizes))
    v = rng.standard_normal(size).astype(np.float32)
    return obs, v, rng.standard_normal((ROWS, act_dim)).astype(np.float32)


def torch_pair(layers):
    """The hand-written linearisation and autograd's, with the probes."""
    obs, v, u = map(torch.from_numpy, problem(layers))
    agent = TorchAgent(3, 2, -1, 1, "cpu", layers, layers, initial_log_std=0.3)
    policy = TorchPolicy(agent.policy, obs)
    theta = _flat_params(agent.policy) * 3.0
    return [torch_fisher.linearize(p, theta) for p in (policy, lambda t: policy(t))], (
        v,
        u,
    )


def jax_pair(layers):
    """The hand-written linearisation and JAX's, with the probes."""
    obs, v, u = map(jnp.asarray, problem(layers))
    agent = JaxAgent(3, 2, -1, 1, "cpu", layers, layers, initial_log_std=0.3)
    theta, unravel = ravel_pytree(agent.state.policy)
    policy = JaxPolicy(unravel, obs, agent.head)
    return [
        jax_fisher.linearize(p, theta * 3.0) for p in (policy, lambda t: policy(t))
    ], (v, u)


@pytest.mark.parametrize("layers", LAYERS, ids=str)
@pytest.mark.parametrize("pair", [torch_pair, jax_pair])
def test_derivatives_by_hand_are_the_automatic_ones(pair, layers, chunk_size):
    (by_hand, automatic), (v, u) = pair(layers)
    for ours, theirs in zip(by_hand.distribution, automatic.distribution, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    pushed = by_hand.push(v)
    for ours, theirs in zip(pushed, automatic.push(v), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    cotangent = pushed._replace(mean=u)
    ours, theirs = by_hand.pull(cotangent), automatic.pull(cotangent)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def update(agent_class):
    rng = np.random.default_rng(0)
    obs, _, actions = problem((8, 4))
    log_probs = -0.5 * (actions**2 + np.log(2 * np.pi)).sum(1, keepdims=True)
    returns, advantages = rng.standard_normal((2, ROWS, 1)).astype(np.float32)
    agent = agent_class(3, 2, -1, 1, "cpu", (8, 4), (8, 4))
    agent.update(Batch(obs, actions, log_probs, returns, advantages))
    return agent.get_state()


@pytest.mark.parametrize("agent_class", [TorchAgent, JaxAgent])
def test_an_update_in_chunks_is_that_of_the_whole_batch(agent_class, monkeypatch):
    whole = update(agent_class)
    monkeypatch.setattr(chunks, "CHUNK_ENTRIES", 10 * 8)
    jax.clear_caches()
    in_chunks = update(agent_class)
    jax.clear_caches()
    assert whole.keys() == in_chunks.keys()
    for name, array in whole.items():
        np.testing.assert_allclose(array, in_chunks[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 5, 1000, 2**20 + 1])
@pytest.mark.parametrize("width", [1, 64, 5000, 2**20])
def test_chunks_hold_at_least_a_row_and_few_entries(rows, width):
    size = chunks.chunk_rows(rows, width)
    assert 1 <= size <= rows
    assert size == 1 or size * width <= 2 * chunks.CHUNK_ENTRIES
