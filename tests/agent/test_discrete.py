"""Discrete actions, in both backends: sampling, probabilities, checks, state."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.support.agents import BACKENDS, agent_module, as_array, fingerprint, native
from trpo.spaces.spaces import UnsupportedSpaceError


OBS = spaces.Box(-1.0, 1.0, (3,), np.float32)
ACTIONS = {
    "Discrete": spaces.Discrete(4, start=3),
    "MultiDiscrete": spaces.MultiDiscrete([3, 2, 5], start=[1, 0, -2]),
    "MultiBinary": spaces.MultiBinary(3),
}
each_space = pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS.keys())
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def make(backend, space, **changes):
    """A small agent whose policy prefers some actions clearly."""
    options = {"policy_layer_sizes": (5, 4), "critic_layer_sizes": (6,)}
    options |= {"value_epochs": 2, "value_minibatch_size": 16}
    agent = agent_module(backend).TRPOAgent.for_spaces(
        OBS, space, **(options | changes)
    )
    state = agent.get_state()
    state["policy.layers.2.weight"] = 60.0 * state["policy.layers.2.weight"]
    agent.set_state(state)
    return agent


def observations(rows, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, 3)).astype(np.float32)


def sampled_batch(agent, rows=40):
    obs = observations(rows)
    actions, log_probs, value = agent.act(obs)
    advantages = np.random.default_rng(1).standard_normal(rows)
    return {"obs": obs, "actions": actions, "log_probs": log_probs,
            "returns": value + 1.0, "advantages": advantages}  # fmt: skip


def joint_actions(agent):
    """Every action of the agent, [A, act_dim]."""
    sizes = agent.head.action_sizes or (2,) * agent.act_dim
    return np.array(list(itertools.product(*map(range, sizes))), np.float32)


def probabilities(agent, obs):
    """The probability of each joint action at one observation, by `_policy_objective`.

    The ratio is the probability itself where the old log-probability is 0.
    """
    actions = joint_actions(agent)
    rows = np.repeat(obs[None], len(actions), 0)
    zeros = np.zeros((len(actions), 1), np.float32)
    arrays = [as_native(agent, array) for array in (rows, actions, zeros, zeros)]
    return as_array(agent._policy_objective(*arrays).ratio)[:, 0]


def as_native(agent, array):
    return native(agent.framework, array)


@each_backend
@each_space
def test_actions_have_the_frequencies_of_their_probabilities(space, backend):
    agent = make(backend, space)
    obs, rows = observations(1)[0], 20_000
    wanted = probabilities(agent, obs)
    assert wanted.sum() == pytest.approx(1.0, abs=1e-6)
    actions, log_probs, _ = agent.act(np.repeat(obs[None], rows, 0))
    known = {tuple(action): i for i, action in enumerate(joint_actions(agent))}
    indices = np.array([known[tuple(action)] for action in actions])
    np.testing.assert_allclose(np.exp(log_probs[:, 0]), wanted[indices], rtol=1e-5)
    counts = np.bincount(indices, minlength=len(wanted))
    deviation = np.sqrt(rows * wanted * (1.0 - wanted))
    assert (np.abs(counts - rows * wanted) < 5.0 * deviation + 1.0).all()


@each_backend
@each_space
def test_the_deterministic_action_is_the_most_probable(space, backend):
    agent = make(backend, space)
    for obs in observations(5):
        action, log_prob, _ = agent.act(obs[None], deterministic=True)
        found = probabilities(agent, obs)
        best = joint_actions(agent)[found.argmax()]
        np.testing.assert_array_equal(action[0], best)
        assert np.exp(log_prob[0, 0]) == pytest.approx(found.max(), rel=1e-5)


@each_space
def test_both_backends_sample_the_same_actions_and_load_each_others_state(space):
    first, second = (make(backend, space, seed=4) for backend in BACKENDS)
    assert fingerprint(first) == fingerprint(second)
    assert "policy.log_std" not in first.get_state()
    for _ in range(3):
        np.testing.assert_array_equal(
            first.act(observations(500))[0], second.act(observations(500))[0]
        )
    first.update(sampled_batch(first))
    second.set_state(first.get_state())
    assert fingerprint(first) == fingerprint(second)
    np.testing.assert_array_equal(
        first.act(observations(500))[0], second.act(observations(500))[0]
    )


@each_backend
@each_space
def test_an_update_improves_within_the_trust_region(space, backend):
    agent = make(backend, space)
    metrics = agent.update(sampled_batch(agent, 200))
    assert metrics["policy/line_search_accepted"] == 1.0
    assert 0.0 < metrics["policy/kl"] <= 0.01
    assert metrics["policy/improvement"] > 0.0
    sizes = agent.head.action_sizes or (2,) * agent.act_dim
    assert 0.0 < metrics["policy/entropy"] < np.log(sizes).sum()


@each_backend
@each_space
def test_an_action_that_does_not_exist_is_refused(space, backend):
    agent = make(backend, space)
    batch = sampled_batch(agent)
    before = fingerprint(agent)
    for value, own in itertools.product((-1.0, 0.5, 5.0, np.nan), (False, True)):
        wrong = batch["actions"].copy()
        wrong[7, -1] = value
        wrong = native(backend, wrong) if own else wrong
        with pytest.raises(ValueError, match=r"batch\['actions'\]"):
            agent.update(batch | {"actions": wrong})
        assert fingerprint(agent) == before


@each_backend
def test_noise_that_is_rounded_up_to_one_takes_an_option_that_exists(backend):
    sure = {"policy.layers.2.bias": np.array([9.0, -9.0], np.float32)}
    for space, wanted in ((spaces.Discrete(2), 0.0), (spaces.MultiBinary(2), 1.0)):
        agent = make(backend, space)
        state = agent.get_state()
        state |= {
            name: 0.0 * array for name, array in state.items() if "weight" in name
        }
        agent.set_state(state | {name: 30.0 * array for name, array in sure.items()})
        # Below 1 in float64 alone.
        noise = np.full((1, agent.act_dim), 1.0 - 1e-12)
        action = as_array(
            agent.backend.forward(as_native(agent, observations(1)), noise)[0]
        )
        assert action[0, 0] == wanted


@each_backend
def test_for_spaces_is_the_constructor_for_a_box(backend):
    box = spaces.Box(-1.0, 1.0, (2,), np.float32)
    sizes = {"policy_layer_sizes": (5, 4), "critic_layer_sizes": (6,)}
    kind = agent_module(backend).TRPOAgent
    one = kind.for_spaces(OBS, box, **sizes, seed=3)
    other = kind(3, 2, -1.0, 1.0, "cpu", (5, 4), (6,), seed=3)
    assert fingerprint(one) == fingerprint(other)
    np.testing.assert_array_equal(
        one.act(observations(9))[0], other.act(observations(9))[0]
    )


@each_backend
def test_for_spaces_takes_observations_as_gymnasium_flattens_them(backend):
    space = spaces.Dict(a=spaces.Discrete(3), b=OBS)
    agent = agent_module(backend).TRPOAgent.for_spaces(space, ACTIONS["Discrete"])
    obs = spaces.flatten(space, {"a": 2, "b": np.zeros(3, np.float32)})
    action = agent.spec.to_environment(agent.act(obs[None])[0])[0]
    assert ACTIONS["Discrete"].contains(action)
    stack = spaces.Dict(a=spaces.Box(0, 255, (2, 8, 8, 3), np.uint8))
    with pytest.raises(UnsupportedSpaceError, match="observation_space"):
        agent_module(backend).TRPOAgent.for_spaces(stack, ACTIONS["Discrete"])


@each_backend
@pytest.mark.parametrize(
    ("distribution", "sizes", "name"),
    [("gaussian", (2,), "action_sizes"), ("categorical", (), "action_sizes"),
     ("categorical", (2, 0), "action_sizes"), ("cauchy", (), "distribution")],
)  # fmt: skip
def test_a_distribution_that_does_not_fit_is_refused(
    backend, distribution, sizes, name
):
    kind = agent_module(backend).TRPOAgent
    with pytest.raises(ValueError, match=f"`{name}`"):
        kind(
            3, 2, 0, 1, "cpu", (4,), (4,), distribution=distribution, action_sizes=sizes
        )


@each_backend
@each_space
def test_float32_and_float64_noise_give_numbers_of_the_agent_s_dtype(space, backend):
    actions, log_probs, _ = make(backend, space).act(observations(5))
    assert (actions.dtype, log_probs.dtype) == (np.float32, np.float32)
    assert torch.tensor(actions).frac().abs().max() == 0.0
