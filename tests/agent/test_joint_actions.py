"""Dict and Tuple actions: one distribution over all their parts."""

import numpy as np
import pytest
from gymnasium import spaces

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
from tests.support.agents import BACKENDS, agent_module, fingerprint
from tests.support.counting_environments import Pack
from tests.support.training_runs import assert_resumes_exactly, learn
from trpo.config.presets import preset_config
from trpo.environments.make import make_vector_environment
from trpo.rollout.collector import RolloutCollector
from trpo.spaces.spaces import UnsupportedSpaceError, policy_spec


OBS = spaces.Box(-1.0, 1.0, (3,), np.float32)
REAL = spaces.Box(np.float32([-1.0, 0.0]), np.float32([1.0, 4.0]))
JOINT = spaces.Dict(
    b=spaces.Tuple([spaces.MultiBinary(2), spaces.Box(-2.0, 2.0, (1, 2))]),
    a=spaces.MultiDiscrete([2, 4], start=[5, -1]),
    c=REAL,
    d=spaces.Discrete(3, start=2),
)
ENV_ID = "TrpoTest/Pack-v0"
SETTINGS = {
    "num_envs": 8, "rollout_steps": 64, "normalize_observations": False,
    "policy_layer_sizes": (32,), "critic_layer_sizes": (32,), "gamma": 0.1,
    "target_kl": 0.05, "cg_damping": 0.01, "value_epochs": 5,
}  # fmt: skip


def make(backend, space=JOINT, **changes):
    options = {"policy_layer_sizes": (5,), "critic_layer_sizes": (6,)}
    return agent_module(backend).TRPOAgent.for_spaces(
        OBS, space, **(options | {"value_epochs": 2} | changes)
    )


def observations(rows):
    return np.random.default_rng(0).standard_normal((rows, 3)).astype(np.float32)


def test_reals_come_first_and_every_part_keeps_its_columns():
    head = policy_spec(OBS, JOINT).head
    # Leaves in the space's own order; a MultiBinary is choices of two.
    assert (head.distribution, head.act_dim) == ("mixed", 9)
    assert head.action_sizes == (2, 2, 2, 4, 3)
    assert (head.reals, head.output_dim) == (4, 4 + 13)
    spec = policy_spec(OBS, JOINT)
    action = np.array([9.0, -0.5, 0.25, -1.0, 1.0, 0.0, 1.0, 3.0, 2.0])
    sent = spec.one_to_environment(action)
    assert JOINT.contains(sent)
    np.testing.assert_array_equal(sent["a"], [6, 2])
    np.testing.assert_array_equal(sent["b"][0], [1, 0])
    np.testing.assert_array_equal(sent["b"][1], [[2.0, -0.5]])
    np.testing.assert_array_equal(sent["c"], np.float32([0.25, 0.0]))
    assert sent["d"] == 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_sampled_actions_are_in_the_space(backend):
    agent = make(backend)
    actions, log_probs, _ = agent.act(observations(200))
    assert log_probs.shape == (200, 1)
    sent = [agent.spec.one_to_environment(action) for action in actions]
    assert all(JOINT.contains(one) for one in sent)
    assert {int(one["d"]) for one in sent} == {2, 3, 4}


@pytest.mark.parametrize(
    ("space", "asked", "distribution"),
    [
        (spaces.Tuple([REAL, REAL]), "gaussian", "gaussian"),
        (spaces.Tuple([REAL, REAL]), "squashed_gaussian", "squashed_gaussian"),
        (spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)]), "gaussian",
         "categorical"),
        (JOINT, "gaussian_state_std", "mixed_state_std"),
        (spaces.Dict(a=spaces.Dict(b=REAL)), "gaussian_state_std",
         "gaussian_state_std"),
    ],
)  # fmt: skip
def test_the_parts_decide_the_distribution(space, asked, distribution):
    agent = make("torch", space, policy_distribution=asked)
    assert agent.head.distribution == distribution
    assert agent.config.policy_distribution == asked
    obs = observations(50)
    actions, log_probs, value = agent.act(obs)
    assert space.contains(agent.spec.one_to_environment(actions[0] * 10.0 % 2.0 // 1))
    metrics = agent.update(
        {"obs": obs, "actions": actions, "log_probs": log_probs,
         "returns": value + 1.0, "advantages": observations(50)[:, 0]}
    )  # fmt: skip
    assert metrics["policy/line_search_accepted"] == 1.0
    assert 0.0 < metrics["policy/kl"] <= 0.01


def test_both_backends_act_alike_and_load_each_others_state():
    first, second = (make(backend, seed=4) for backend in BACKENDS)
    assert fingerprint(first) == fingerprint(second)
    obs = observations(50)
    for ours, theirs in zip(first.act(obs), second.act(obs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Tuple([REAL, spaces.Text(3)]),
        spaces.Dict(a=spaces.Dict()),
        spaces.Tuple([spaces.Box(0, 2**17, (2,), np.int32), REAL]),
    ],
    ids=str,
)
def test_a_part_that_is_not_supported_is_refused_with_the_whole(space):
    with pytest.raises(UnsupportedSpaceError, match="`action_space`") as caught:
        policy_spec(OBS, space)
    assert str(space) in str(caught.value)


def test_distributions_that_parts_cannot_have_are_refused():
    half = spaces.Tuple([REAL, spaces.Box(0.0, np.inf, (1,))])
    with pytest.raises(UnsupportedSpaceError, match="finite"):
        policy_spec(OBS, half, "squashed_gaussian")
    for space in (JOINT, spaces.Tuple([spaces.Discrete(2)])):
        with pytest.raises(UnsupportedSpaceError, match="`policy_distribution`"):
            policy_spec(OBS, space, "squashed_gaussian")


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_to_take_how_far_and_whether_is_learned(tmp_path, backend):
    config = preset_config(ENV_ID, backend=backend, **SETTINGS)
    found = learn(config, 30, tmp_path / "run")
    assert found.before < 0.7 * Pack.best_return
    assert 0.9 * Pack.best_return < found.after <= Pack.best_return
    assert found.in_other_backend == pytest.approx(found.after, abs=0.05)


def test_a_resumed_run_continues_exactly():
    config = preset_config(
        ENV_ID, backend="torch", total_steps=4 * 8 * 11,
        **(SETTINGS | {"rollout_steps": 11}),
    )  # fmt: skip
    assert_resumes_exactly(config)


def test_asynchronous_workers_give_the_same_rollout():
    rollouts = []
    for vectorization in ("sync", "async"):
        env = make_vector_environment(
            f"tests.support.counting_environments:{ENV_ID}",
            2,
            seed=5,
            vectorization=vectorization,
        )
        try:
            collector = RolloutCollector(env)
            agent = make("torch", env.single_action_space)
            rollouts.append(collector.collect(agent, 9))
        finally:
            env.close()
    np.testing.assert_array_equal(rollouts[0].obs, rollouts[1].obs)
    np.testing.assert_array_equal(rollouts[0].rewards, rollouts[1].rewards)
