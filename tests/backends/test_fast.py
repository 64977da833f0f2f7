"""`trpo_torch/fast/` against the textbook: on against off, whole and in chunks."""

import itertools

import numpy as np
import pytest
import torch

from tests.support.product_library import force_library
from trpo.config import TRPOConfig
from trpo.data.batch import Batch
from trpo.spaces.action_heads import Head
from trpo_jax import TRPOAgent as JaxAgent
from trpo_torch import RecurrentTRPOAgent, TRPOAgent as TorchAgent
from trpo_torch.agent import _flat_params
from trpo_torch.agent.update import is_fast
from trpo_torch.fast import mlp as torch_mlp
from trpo_torch.fast.policy import FastPolicy
from trpo_torch.networks.feedforward import layers_of
from trpo_torch.policy_step.fisher import gauss_newton_product


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
    policy = FastPolicy(agent.policy, obs)
    return policy, _flat_params(agent.policy) * 3.0, v


def same_metric(policy, theta, v):
    ours = gauss_newton_product(policy, theta, 0.0)(v)
    theirs = gauss_newton_product(lambda t: policy(t), theta, 0.0)(v)
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
    policy, theta, _ = torch_pair(layers)
    actions = torch.from_numpy(problem(layers)[2])

    def mean_log_prob(at):
        return at.log_prob(actions).mean()

    at, (gradient,) = policy.gradient(mean_log_prob, theta)
    leaf = theta.clone().requires_grad_()
    expected = policy(leaf)
    (automatic,) = torch.autograd.grad(mean_log_prob(expected), leaf)
    np.testing.assert_allclose(gradient, automatic, rtol=1e-4, atol=1e-5)
    for field, other in zip(at, expected, strict=True):
        assert not field.requires_grad
        np.testing.assert_allclose(field, other.detach(), rtol=1e-4, atol=1e-6)


def test_a_gradient_by_hand_of_a_function_of_log_std_alone():
    policy, theta, _ = torch_pair((4,))
    _, (gradient,) = policy.gradient(lambda at: at.entropy().mean(), theta)
    np.testing.assert_array_equal(gradient, [1.0, 1.0] + [0.0] * (len(theta) - 2))


def test_what_was_recorded_is_not_used_at_other_parameters():
    policy, theta, v = torch_pair((4,))
    policy.gradient(lambda at: at.mode().sum(), theta)
    theta *= 0.5
    same_metric(policy, theta, v)
    same_metric(policy, theta * 0.5, v)


def torch_derivatives(arrays, tangents, obs, u):
    """J v and J'u of a network: by hand, and automatic."""
    given = [torch.from_numpy(array) for array in (*arrays, *tangents, obs, u)]
    *both, obs, u = given
    arrays, tangents = tuple(both[: len(arrays)]), tuple(both[len(arrays) :])

    def outputs(*arrays):
        return torch_mlp.forward(layers_of(arrays), obs)[-1]

    layers = layers_of(arrays)
    _, tape = torch_mlp.record(layers, obs)
    pushed = torch_mlp.jvp(layers, tape.inputs, layers_of(tangents))
    pulled = [torch.empty_like(array) for array in arrays]
    into = layers_of(pulled)
    torch_mlp.vjp(layers, tape.inputs, u, into, transposed=tape.transposed)
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


# Head, whether there is a mask, and what else the agent is asked for.
EQUAL = {
    "gaussian": (Head(2), False, {}),
    "gaussian, at the bound": (Head(2), False, {"initial_log_std": 2.0}),
    "deep": (Head(2), False, {"layers": (7, 5, 6)}),
    "relu": (Head(2), False, {"activation": "relu"}),
    "elu, entropy": (
        Head(2), False, {"activation": "elu", "entropy_coefficient": 0.1},
    ),
    "in chunks": (Head(2), False, {"batch_chunk_size": 20}),
    "every third": (Head(2), False, {"fisher_every": 3}),
    "own deviation": (Head(2, "gaussian_state_std"), False, {}),
    "squashed": (Head(2, "squashed_gaussian"), False, {}),
    "choices": (Head(2, "categorical", (3, 2)), True, {}),
    "switches": (Head(3, "bernoulli"), True, {}),
    "mixed": (Head(3, "mixed", (3, 2)), True, {}),
    "mixed, own deviation": (Head(3, "mixed_state_std", (3, 2)), False, {}),
}  # fmt: skip


def agent_of(head, fast_products, layers=(8, 4), **options):
    return TorchAgent(
        3, head.act_dim, -1.0, 1.0, "cpu", layers, layers,
        distribution=head.distribution, action_sizes=head.action_sizes,
        dtype="float64", fast_products=fast_products, seed=4, **options,
    )  # fmt: skip


def batch_of(head, masked):
    rng = np.random.default_rng(1)
    obs = rng.standard_normal((ROWS, 3))
    mask = None
    if masked:
        mask = (rng.random((ROWS, sum(head.options))) < 0.5).astype(float)
        mask[:, np.cumsum((0, *head.options[:-1]))] = 1.0
    agent = agent_of(head, "off")
    actions, log_probs, _ = agent.act(obs, action_mask=mask)
    returns, advantages = rng.standard_normal((2, ROWS, 1))
    return Batch(obs, actions, log_probs, returns, advantages, mask)


@pytest.mark.parametrize("name", EQUAL)
def test_on_and_off_make_the_same_updates(name):
    head, masked, options = EQUAL[name]
    batch = batch_of(head, masked)
    on, off = (agent_of(head, asked, **options) for asked in ("on", "off"))
    for _ in range(2):
        reports = [agent.update(batch) for agent in (on, off)]
        for metric, value in reports[1].items():
            assert reports[0][metric] == pytest.approx(value, rel=1e-10, abs=1e-12)
        assert reports[0]["policy/line_search_accepted"] == 1.0
    state = off.get_state()
    for name, array in on.get_state().items():
        np.testing.assert_allclose(array, state[name], rtol=1e-10, atol=1e-12)


def test_an_update_without_gradients_is_the_same():
    batch = batch_of(Head(2), False)
    for asked in ("on", "off"):
        one, other = (agent_of(Head(2), asked) for _ in range(2))
        one.update(batch)
        with torch.no_grad():
            other.update(batch)
        for name, array in one.get_state().items():
            np.testing.assert_array_equal(array, other.get_state()[name])


# Sizes that only the other network has.
@pytest.mark.filterwarnings("ignore:.*not used, as a network of your own")
@pytest.mark.parametrize(
    ("options", "network"),
    [
        ({"activation": "gelu"}, "a Policy on 'cpu'"),
        ({"layer_norm": True}, "a Policy on 'cpu'"),
        ({"policy_network": torch.nn.Linear(3, 2)}, "a CustomPolicy on 'cpu'"),
        ({"value_network": torch.nn.Linear(3, 1)}, "a CustomCritic on 'cpu'"),
    ],
    ids=str,
)
def test_on_is_refused_where_it_can_not_be(options, network):
    with pytest.raises(ValueError, match=f"`fast_products`: .* {network}"):
        agent_of(Head(2), "on", **options)
    agent_of(Head(2), "auto", **options)


def test_on_is_refused_for_memory_for_other_devices_and_by_jax():
    sizes = (3, 2, -1.0, 1.0, "cpu", (4,), (4,))
    with pytest.raises(ValueError, match=r"`fast_products`: .*RecurrentPolicy"):
        RecurrentTRPOAgent(*sizes, recurrent="gru", fast_products="on")
    with pytest.raises(ValueError, match=r"`fast_products`: .* with JAX"):
        JaxAgent(*sizes, fast_products="on")
    network = agent_of(Head(2), "auto").policy
    with pytest.raises(ValueError, match="on 'cuda'"):
        is_fast("on", network, torch.device("cuda"))
    assert not is_fast("auto", network, torch.device("cuda"))
    assert is_fast("auto", network, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"`fast_products`: expected .*got 'yes'"):
        TRPOConfig(fast_products="yes")  # pyright: ignore[reportArgumentType]
