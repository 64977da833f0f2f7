"""The pure policy that an agent hands out, in either framework."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.agent.test_copies import SPACES, for_spaces
from tests.support.agents import make_agent, make_batch
from tests.support.device_agents import KINDS, make, observations


def seen(backend, name, **changes):
    """An agent that has learned, and observations of it."""
    agent = for_spaces(backend, name, **changes)
    rng = np.random.default_rng(0)
    obs = rng.uniform(0.0, 3.0, (6, agent.obs_dim)).astype(np.float32)
    agent.observe(np.float64(5.0) * obs)
    return agent, obs


def sent(agent, obs):
    return agent.spec.to_environment(agent.act(obs, deterministic=True)[0])


def close(ours, theirs):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.asarray(a), b, rtol=1e-4, atol=1e-6),
        ours,
        theirs,
    )


OPTIONS = [
    ("box", {"normalize_observations": True}),
    ("box", {}),
    *((name, {"normalize_observations": True}) for name in SPACES if name != "box"),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_modes_are_those_of_the_agent(name, options):
    agent, obs = seen("jax", name, **options)
    function, parameters = agent.policy_function()
    close(jax.jit(function)(parameters, obs), sent(agent, obs))
    close(jax.vmap(function, (None, 0))(parameters, obs), sent(agent, obs))
    twin, _ = seen("torch", name, **options)
    module = twin.policy_function()
    assert isinstance(module, torch.nn.Module)
    close(module(torch.from_numpy(obs)), sent(twin, obs))
    close(module(torch.from_numpy(obs[0])), twin.spec.one_to_environment(
        twin.act(obs[:1], deterministic=True)[0][0]))  # fmt: skip


def test_squashed_actions_are_stretched_to_the_bounds():
    kind = next(kind for kind in KINDS if kind.name == "own std")
    for backend in ("jax", "torch"):
        agent = make(kind, backend, "cpu")
        obs = observations(agent, 5)
        if backend == "jax":
            function, parameters = agent.policy_function()
            close(function(parameters, obs), sent(agent, obs))
        else:
            close(agent.policy_function()(torch.from_numpy(obs)), sent(agent, obs))


def test_samples_are_of_the_key_and_updates_are_seen_when_asked_again():
    agent = make_agent("jax", action_low=-1e6, action_high=1e6)
    function, parameters = agent.policy_function()
    obs = jnp.zeros((20_000, 3))
    sample = jax.jit(function)
    one, again = (sample(parameters, obs, jax.random.key(0)) for _ in "ab")
    assert (one == again).all()
    assert not (one == sample(parameters, obs, jax.random.key(1))).any()
    mean = agent.act(np.zeros((1, 3)), deterministic=True)[0][0]
    np.testing.assert_allclose(one.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(one.std(0), 1.0, atol=0.05)
    keys = jax.random.split(jax.random.key(2), 5)
    each = jax.vmap(function, (None, 0, 0))(parameters, obs[:5], keys)
    assert len(np.unique(np.asarray(each)[:, 0])) == 5
    old = sample(parameters, obs[:2])
    agent.update(make_batch(agent))
    assert (sample(parameters, obs[:2]) == old).all()
    newer, after = agent.policy_function()
    assert newer is function
    assert (sample(after, obs[:2]) != old).any()


def test_choices_are_drawn_by_their_probabilities():
    agent = for_spaces("jax", "joint")
    function, parameters = agent.policy_function()
    obs = jnp.zeros((4000, agent.obs_dim))
    actions = function(parameters, obs, jax.random.key(0))
    count, parts = actions[0], actions[1]
    assert sorted(set(np.asarray(count).tolist())) == [0, 1]
    assert sorted(set(np.asarray(parts["y"]).tolist())) == [0, 1, 2, 3]
    np.testing.assert_allclose(np.asarray(count).mean(), 0.5, atol=0.1)
    mask = np.ones((4000, 6), np.float32)
    mask[:, 1] = 0.0
    masked = function(parameters, obs, jax.random.key(0), mask)
    assert (np.asarray(masked[0]) == 0).all()


def test_the_module_samples_from_noise_and_is_a_copy():
    agent = make_agent("torch", action_low=-1e6, action_high=1e6)
    twin = make_agent("torch", action_low=-1e6, action_high=1e6)
    obs = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    module = agent.policy_function()
    noise = agent.spec.head.draw_noise(np.random.default_rng(0), 7)
    mean = module(obs)
    np.testing.assert_allclose(module(obs, noise) - mean, noise, rtol=1e-4, atol=1e-5)
    scripted = torch.export.export(module, (obs,)).module()
    np.testing.assert_allclose(scripted(obs), mean, rtol=1e-6)
    agent.update(make_batch(agent))
    assert (module(obs) == mean).all()
    assert (agent.policy_function()(obs) != mean).any()
    # It shares nothing: what is done to it is not done to the agent.
    with torch.no_grad():
        for parameter in twin.policy_function().parameters():
            parameter.zero_()
    np.testing.assert_allclose(
        twin.act(obs.numpy(), deterministic=True)[0], mean, rtol=1e-6
    )


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_an_agent_with_a_memory_says_why_it_has_none(backend):
    kind = next(kind for kind in KINDS if kind.name == "lstm")
    with pytest.raises(ValueError, match=r"`policy_function`.*RecurrentTRPOAgent"):
        make(kind, backend, "cpu").policy_function()
