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
from trpo_torch import TRPOAgent as TorchAgent, fisher as torch_fisher, products
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


def jax_pair(layers):
    """The same in JAX."""
    obs, v, _ = map(jnp.asarray, problem(layers))
    agent = JaxAgent(3, 2, -1, 1, "cpu", layers, layers, initial_log_std=0.3)
    theta, unravel = ravel_pytree(agent.state.policy)
    return jax_fisher, JaxPolicy(unravel, obs, agent.head), theta * 3.0, v


@pytest.fixture
def onednn(monkeypatch):
    """All products of PyTorch by that library, however small."""
    monkeypatch.setattr(products, "ONEDNN", True)
    monkeypatch.setattr(products, "ONEDNN_FROM", 0)
    monkeypatch.setattr(products, "_worth", lambda *_: True)


@pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="PyTorch has no oneDNN"
)
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_the_same_by_the_other_library(layers, chunk_size, onednn):
    fisher, policy, theta, v = torch_pair(layers)
    ours = fisher.metric_product(policy, theta)(v)
    theirs = fisher.metric_product(lambda t: policy(t), theta)(v)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", LAYERS, ids=str)
@pytest.mark.parametrize("pair", [torch_pair, jax_pair])
def test_the_metric_by_hand_is_that_of_automatic_derivatives(pair, layers, chunk_size):
    fisher, policy, theta, v = pair(layers)
    ours = fisher.metric_product(policy, theta)(v)
    theirs = fisher.metric_product(lambda t: policy(t), theta)(v)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


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
