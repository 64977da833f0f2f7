"""Gaussians with a log_std for each observation, and squashed ones."""

import numpy as np
import pytest
from gymnasium import spaces

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
from tests.support.agents import BACKENDS, agent_module, as_array, fingerprint, native
from tests.support.counting_environments import Aim
from tests.support.training_runs import learn
from trpo.config.presets import preset_config
from trpo.config.run import TRPOConfig
from trpo.spaces.spaces import UnsupportedSpaceError, policy_spec


OBS = spaces.Box(-1.0, 1.0, (3,), np.float32)
BOX = spaces.Box(np.float32([-1.0, 0.0]), np.float32([1.0, 4.0]))
OTHERS = ("gaussian_state_std", "squashed_gaussian", "squashed_gaussian_state_std")
each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_distribution = pytest.mark.parametrize("distribution", OTHERS)


def make(backend, distribution, box=BOX, **changes):
    """A small agent whose mean, and log_std if it can, differ from state to state."""
    options = {"policy_layer_sizes": (5, 4), "critic_layer_sizes": (6,)}
    options |= {"value_epochs": 2, "policy_distribution": distribution}
    agent = agent_module(backend).TRPOAgent.for_spaces(OBS, box, **(options | changes))
    state = agent.get_state()
    state["policy.layers.2.weight"] = 60.0 * state["policy.layers.2.weight"]
    agent.set_state(state)
    return agent


def observations(rows, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, 3)).astype(np.float32)


def log_prob(agent, obs, actions):
    """Log-density by `_policy_objective`: the log-ratio to old log-densities of 0."""
    zeros = np.zeros((len(obs), 1), np.float32)
    arrays = [native(agent.framework, a) for a in (obs, actions, zeros, zeros)]
    return as_array(agent._policy_objective(*arrays).log_ratio)[:, 0]


@each_backend
@each_distribution
def test_the_density_integrates_to_one_over_the_squashed_action(distribution, backend):
    agent = make(backend, distribution, spaces.Box(-2.0, 6.0, (1,), np.float32))
    u = np.linspace(-8.0, 8.0, 4001, dtype=np.float32)[:, None]
    obs = np.repeat(observations(1), len(u), 0)
    density = np.exp(log_prob(agent, obs, u).astype(float))
    squashed = agent.head.family.squashed
    # As a share of half the range, which is what tanh gives.
    over = 0.25 * (agent.spec.to_environment(u) - 2.0) if squashed else u
    total = np.trapezoid(density, over[:, 0].astype(float))
    assert total == pytest.approx(1.0, abs=1e-3)


def moments(agent, obs, rows=20_000):
    """Mean and deviation of sampled u at one observation."""
    actions = agent.act(np.repeat(obs, rows, 0))[0]
    return actions.mean(0), actions.std(0)


@each_backend
@pytest.mark.parametrize("distribution", ["gaussian_state_std", OTHERS[2]])
def test_log_std_follows_the_observation_and_starts_where_it_is_told(
    distribution, backend
):
    deviations = [moments(make(backend, distribution), o[None])[1]
                  for o in observations(2)]  # fmt: skip
    assert np.abs(deviations[0] - deviations[1]).max() > 0.05
    fresh = agent_module(backend).TRPOAgent.for_spaces(
        OBS, BOX, policy_distribution=distribution, initial_log_std=-1.0
    )
    assert "policy.log_std" not in fresh.get_state()
    _, deviation = moments(fresh, observations(1))
    np.testing.assert_allclose(deviation, np.exp(-1.0), rtol=0.03)


@each_distribution
def test_both_backends_act_alike_and_load_each_others_state(distribution):
    first, second = (make(backend, distribution, seed=4) for backend in BACKENDS)
    assert fingerprint(first) == fingerprint(second)
    obs = observations(50)
    first.update(batch_of(first))
    second.set_state(first.get_state())
    assert fingerprint(first) == fingerprint(second)
    for ours, theirs in zip(first.act(obs), second.act(obs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def batch_of(agent, rows=200):
    obs = observations(rows)
    actions, log_probs, value = agent.act(obs)
    advantages = np.random.default_rng(1).standard_normal(rows)
    return {"obs": obs, "actions": actions, "log_probs": log_probs,
            "returns": value + 1.0, "advantages": advantages}  # fmt: skip


@each_distribution
def test_an_update_improves_within_the_trust_region(distribution):
    agent = make("torch", distribution)
    metrics = agent.update(batch_of(agent))
    assert metrics["policy/line_search_accepted"] == 1.0
    assert 0.0 < metrics["policy/kl"] <= 0.01
    assert metrics["policy/improvement"] > 0.0


def test_squashed_actions_are_in_the_box_and_the_batch_keeps_them_raw():
    agent = make("torch", "squashed_gaussian", initial_log_std=2.0)
    raw = agent.act(observations(500))[0]
    sent = agent.spec.to_environment(raw)
    assert all(BOX.contains(action) for action in sent)
    assert np.abs(raw).max() > 5.0
    share = (sent - BOX.low) / (BOX.high - BOX.low)
    np.testing.assert_allclose(share, 0.5 * (1.0 + np.tanh(raw)), atol=1e-6)


@pytest.mark.parametrize("distribution", OTHERS[1:])
def test_squashing_needs_finite_bounds_and_real_numbers(distribution):
    half = spaces.Box(np.float32([0.0]), np.float32([np.inf]))
    with pytest.raises(UnsupportedSpaceError, match=r"`action_space`.*finite"):
        policy_spec(OBS, half, distribution)
    with pytest.raises(UnsupportedSpaceError, match="`policy_distribution`"):
        policy_spec(OBS, spaces.Discrete(3), distribution)
    for backend in BACKENDS:
        kind = agent_module(backend).TRPOAgent
        with pytest.raises(ValueError, match="`action_low`, `action_high`: expected"):
            kind(3, 1, 0.0, np.inf, "cpu", (4,), (4,), distribution=distribution)
    policy_spec(OBS, half, "gaussian_state_std")


def test_the_constructor_s_distribution_is_the_configuration_s():
    kind = agent_module("torch").TRPOAgent
    agent = kind(3, 1, -1, 1, "cpu", (4,), (4,), distribution=OTHERS[0])
    assert agent.config.policy_distribution == OTHERS[0]
    assert TRPOConfig().policy_distribution == "gaussian"


SETTINGS = {
    "num_envs": 8, "rollout_steps": 64, "normalize_observations": False,
    "policy_layer_sizes": (32,), "critic_layer_sizes": (32,), "gamma": 0.1,
    "target_kl": 0.05, "cg_damping": 0.01, "value_epochs": 5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("backend", "distribution"),
    [("torch", OTHERS[0]), ("torch", OTHERS[1]), ("jax", OTHERS[2])],
)
def test_a_target_is_learned_and_another_backend_plays_it(
    tmp_path, backend, distribution
):
    env_id = "TrpoTest/Aim-v0"
    config = preset_config(
        env_id, backend=backend, policy_distribution=distribution, **SETTINGS
    )
    found = learn(config, 25, tmp_path / "run")
    assert found.before < 0.8 * Aim.best_return
    assert 0.93 * Aim.best_return < found.after <= Aim.best_return
    assert found.in_other_backend == pytest.approx(found.after, abs=1e-3)
