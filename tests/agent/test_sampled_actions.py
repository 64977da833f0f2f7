"""Actions alone, and what is said of a rollout's afterwards, are those of `act`."""

import itertools

import numpy as np
import pytest
import torch

from tests.agent.test_copies import SPACES, for_spaces
from tests.agent.test_recurrent import make as make_recurrent
from tests.support.agents import BACKENDS, as_array, make_agent, native
from trpo.agent.host_policy import HostPolicy
from trpo.data.batch import Batch
from trpo.rollout.acting import Actor, HostActor, actor_of
from trpo.spaces.action_heads import (
    BERNOULLI,
    CATEGORICAL,
    GAUSSIAN,
    GAUSSIAN_STATE_STD,
    MIXTURES,
    Head,
)


ROWS = 7


def rows_of(agent, count=ROWS, seed=3):
    """Observations, and a mask of choices in which each row forbids another option."""
    generator = np.random.default_rng(seed)
    obs = generator.uniform(0.0, 2.0, (count, agent.obs_dim))
    if not agent.head.options:
        return obs, None
    mask = np.concatenate(
        [
            np.arange(count)[:, None] % (options + 1) != np.arange(options)
            for options in agent.head.options
        ],
        axis=1,
    )
    return obs, mask


def agents(backend, name, **changes):
    """Two agents that are equal."""
    options = {"normalize_observations": True, **changes}
    made = [for_spaces(backend, name, **options) for _ in range(2)]
    for agent in made:
        agent.observe(np.random.default_rng(5).uniform(0.0, 3.0, (9, agent.obs_dim)))
    return made


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_actions_alone_are_those_of_act_and_so_is_what_is_said_of_them(backend, name):
    one, other = agents(backend, name, batch_chunk_size=None)
    obs, mask = rows_of(one)
    for deterministic in (True, False, False):
        actions, log_probs, values = one.act(obs, deterministic, mask)
        alone = other.sample_actions(obs, deterministic, mask)
        np.testing.assert_array_equal(alone, actions)
        said = other.evaluate_actions(obs, actions, mask)
        for got, expected in zip(said, (log_probs, values), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    draws = [agent.get_state()["random.action_draws"] for agent in (one, other)]
    assert draws == [2, 2]


def acts_here(agent, rows=ROWS):
    """The actor of an agent whose policy is small enough for NumPy."""
    actor = actor_of(agent, rows)
    assert isinstance(actor, HostActor)
    return actor


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_policy_acts_in_numpy_as_in_its_framework(backend, name):
    one, other = agents(backend, name)
    (obs, mask), starts = rows_of(one), np.zeros(ROWS, dtype=bool)
    here = actor_of(other, ROWS)
    assert type(here) is (Actor if one.spec.images else HostActor)
    for actor in (here, Actor(other)):
        for deterministic, given in itertools.product((True, False), (None, mask)):
            expected = one.act(obs, deterministic, given)[0]
            actions = actor.act(obs, starts, given, deterministic)
            assert actions.dtype == expected.dtype
            np.testing.assert_allclose(actions, expected, rtol=2e-5, atol=2e-6)
    draws = [agent.get_state()["random.action_draws"] for agent in (one, other)]
    assert draws == [4, 4]


@pytest.mark.parametrize("activation", ["relu", "elu", "gelu", "silu"])
@pytest.mark.parametrize("distribution", [GAUSSIAN, GAUSSIAN_STATE_STD])
def test_each_activation_and_bounds_of_the_deviation_in_numpy(activation, distribution):
    options = {"activation": activation, "distribution": distribution}
    one, other = (make_agent("torch", **options) for _ in range(2))
    state = one.get_state()
    if distribution == GAUSSIAN:
        state["policy.log_std"][:] = -25.0, 2.5
    else:
        state["policy.layers.2.bias"][:] = 0.1, 0.2, -25.0, 2.5
    for name, array in state.items():
        if name.startswith("policy.layers") and array.ndim == 1:
            array += np.linspace(-1.0, 1.0, array.size)
    for agent in (one, other):
        agent.set_state(state)
    (obs, _), starts = rows_of(one), np.zeros(ROWS, dtype=bool)
    if activation == "gelu":
        # NumPy has no error function.
        assert type(actor_of(other, ROWS)) is Actor
        return
    for deterministic in (True, False):
        expected = one.act(4.0 * obs - 4.0, deterministic)[0]
        actions = acts_here(other).act(4.0 * obs - 4.0, starts, None, deterministic)
        np.testing.assert_allclose(actions, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("distribution", MIXTURES)
def test_reals_and_choices_together_in_numpy(distribution):
    sizes = {"act_dim": 5, "action_sizes": (3, 2)}
    one, other = (make_agent("torch", distribution=distribution, **sizes) for _ in "ab")
    (obs, mask), starts = rows_of(one), np.zeros(ROWS, dtype=bool)
    for deterministic in (True, False, False):
        expected = one.act(obs, deterministic, mask)[0]
        actions = acts_here(other).act(obs, starts, mask, deterministic)
        np.testing.assert_allclose(actions, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_norm": True}, {"matmul_precision": "tf32"},
        {"policy_layer_sizes": (512, 512)},
        {"policy_network": torch.nn.Linear(3, 2), "policy_layer_sizes": (64, 64)},
    ],
)  # fmt: skip
def test_what_numpy_has_not_or_is_slower_at_acts_in_its_framework(changes):
    assert type(actor_of(make_agent("torch", **changes), ROWS)) is Actor


@pytest.mark.parametrize("name", SPACES)
def test_a_rollout_has_the_noise_of_its_steps(name):
    one, other = agents("torch", name)
    (obs, mask), starts = rows_of(one), np.zeros(ROWS, dtype=bool)
    at_once, each = actor_of(one, ROWS, steps=3), actor_of(other, ROWS)
    for _ in range(3):
        expected = each.act(obs, starts, mask)
        np.testing.assert_array_equal(at_once.act(obs, starts, mask), expected)
    draws = [agent.get_state()["random.action_draws"] for agent in (one, other)]
    assert draws == [3, 3]


def test_the_ends_of_the_noise_in_numpy():
    logits, ends = np.zeros((3, 4), np.float32), np.float32([[0.0], [0.5], [1 - 1e-12]])
    head = Head(1, CATEGORICAL, (4,))
    arrays = {
        "policy.layers.0.weight": np.zeros((4, 2), np.float32),
        "policy.layers.0.bias": logits[0],
    }
    policy, obs = HostPolicy(head, "tanh", arrays, None, 3), np.zeros((3, 2))
    assert policy.act(obs, ends, None).tolist() == [[0.0], [2.0], [3.0]]
    only = np.eye(4, dtype=bool)[[2, 1, 2]]
    assert policy.act(obs, ends, only).tolist() == [[2.0], [1.0], [2.0]]
    switches = HostPolicy(Head(4, BERNOULLI), "tanh", arrays, None, 3)
    assert not switches.act(obs, None, None).any()


def test_an_actor_keeps_the_policy_that_it_was_made_of():
    agent = make_agent("torch")
    (obs, _), starts = rows_of(agent), np.zeros(ROWS, dtype=bool)
    actor = acts_here(agent)
    before = actor.act(obs, starts, deterministic=True)
    state = agent.get_state()
    state["policy.layers.0.weight"] += 1.0
    agent.set_state(state)
    np.testing.assert_array_equal(actor.act(obs, starts, None, True), before)
    after = acts_here(agent).act(obs, starts, None, True)
    np.testing.assert_allclose(after, agent.act(obs, True)[0], rtol=1e-5, atol=1e-6)
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_ratio_of_an_update_starts_at_one(backend):
    agent = make_agent(backend, policy_layer_sizes=(64, 64))
    obs = np.random.default_rng(2).standard_normal((601, agent.obs_dim))
    actions = agent.sample_actions(obs)
    log_probs, _ = agent.evaluate_actions(obs, actions)
    given = [obs, actions, log_probs, log_probs * 0.0 + 1.0]
    surrogate = agent._policy_objective(
        *(native(backend, np.asarray(array, np.float32)) for array in given)
    )
    assert np.abs(as_array(surrogate.ratio) - 1.0).max() < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunks_of_a_rollout_are_joined_in_order_each_with_its_masks(backend):
    (whole, _), (chunked, _) = (
        agents(backend, "discrete", batch_chunk_size=size) for size in (None, 3)
    )
    obs, mask = rows_of(whole, 11)
    actions = whole.sample_actions(obs, False, mask)
    for got, expected in zip(
        chunked.evaluate_actions(obs, actions, mask),
        whole.evaluate_actions(obs, actions, mask),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        assert len(np.unique(got)) == len(obs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_after_an_update_the_new_policy_acts(backend):
    agent = make_agent(backend)
    obs = np.random.default_rng(6).standard_normal((20, agent.obs_dim))
    before = agent.sample_actions(obs, deterministic=True)
    actions = agent.sample_actions(obs)
    log_probs, values = agent.evaluate_actions(obs, actions)
    advantages = np.linspace(-1.0, 1.0, len(obs))
    agent.update(Batch(obs, actions, log_probs, values, advantages[:, None]))
    after = agent.sample_actions(obs, deterministic=True)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after, agent.act(obs, deterministic=True)[0])
    assert not np.array_equal(agent.evaluate_actions(obs, actions)[0], log_probs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_no_observation_or_action_is_refused(backend):
    agent = make_agent(backend)
    obs = np.zeros((2, agent.obs_dim))
    with pytest.raises(ValueError, match="`obs`"):
        agent.sample_actions(obs + np.nan)
    with pytest.raises(ValueError, match="actions"):
        agent.evaluate_actions(obs, np.zeros((3, agent.act_dim)))
    recurrent = make_recurrent(backend)
    for call in (recurrent.sample_actions, recurrent.evaluate_actions):
        with pytest.raises(ValueError, match="without a memory"):
            call(obs, obs)


@pytest.mark.parametrize("make", [make_agent, make_recurrent])
def test_an_actor_takes_the_most_likely_where_it_is_asked_to(make):
    agent = make("torch")
    obs = np.random.default_rng(8).standard_normal((3, agent.obs_dim))
    starts = np.ones(3, dtype=bool)
    likely = actor_of(agent, 3).act(obs, starts, deterministic=True)
    np.testing.assert_allclose(likely, agent.act(obs, True)[0], rtol=1e-5, atol=1e-6)
    assert not np.array_equal(actor_of(agent, 3).act(obs, starts), likely)
