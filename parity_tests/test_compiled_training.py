"""The compiled loop equals the host's, and a member of many equals itself alone."""

import copy
import dataclasses

import jax
import numpy as np
import pytest

from parity_tests.compiled_lock_step import compare, group, small_config, worst
from trpo.members import members_of
from trpo_jax import compiled_iteration, compiled_rollout, compiled_statistics
from trpo_jax.compiled_run import CompiledTrainer
from trpo_jax.compiled_training import run_chunk


BOUND = 1e-9
CASES = {
    # Cut off by the time limit only, in the middle of rollouts and at their end.
    "Pendulum": ("phys2d/Pendulum-v0", 16),
    # Falls, and is cut off where it does not.
    "CartPole": ("phys2d/CartPole-v1", 18),
}


@pytest.mark.parametrize("name", CASES)
def test_the_compiled_loop_equals_the_host_s(name):
    env_id, limit = CASES[name]
    iterations = list(compare(small_config(env_id), limit))
    assert len(iterations) == 6
    ends = [
        sum(float(i[f"rollout/{kind}"].host.sum()) for i in iterations)
        for kind in ("terminated", "truncated")
    ]
    assert ends[1] > 10
    assert (ends[0] > 10) == (name == "CartPole")
    # The policy moved, so there was an update to compare.
    first, last = (iterations[i]["state/policy.layers.0.weight"].host for i in (0, -1))
    assert np.linalg.norm(last - first) > 1e-3
    errors = worst(iter(iterations))
    print(name, {kind: f"{error:.1e}" for kind, error in group(errors).items()})
    assert {k: v for k, v in errors.items() if not v <= BOUND} == {}


# Each fault: what is replaced in which module, and what has to see it.


def _bootstrap_from_reset(monkeypatch):
    """V of the next episode's first observation, where one was cut off."""
    step = compiled_rollout.step

    def faulty(*arguments):
        after, transition = step(*arguments)
        return after, transition._replace(final_obs=after.obs)

    monkeypatch.setattr(compiled_rollout, "step", faulty)


def _normalise_before_the_update(monkeypatch):
    prepare_batch = compiled_iteration.prepare_batch

    def faulty(program, hyperparameters, state, rollout):
        obs = rollout.obs.reshape(-1, rollout.obs.shape[-1])
        moments = compiled_statistics.add(state.observation_moments, obs)
        early = state._replace(observation_moments=moments)
        return prepare_batch(program, hyperparameters, early, rollout)

    monkeypatch.setattr(compiled_iteration, "prepare_batch", faulty)


def _scale_over_ends(monkeypatch):
    def faulty(before, rewards, done, gamma):
        def one(carry, reward):
            carry = gamma * carry + reward
            return carry, carry

        return jax.lax.scan(one, before, rewards)

    monkeypatch.setattr(compiled_statistics, "discounted_returns", faulty)


def _truncation_as_termination(monkeypatch):
    estimate = compiled_statistics.generalized_advantages

    def faulty(rewards, values, next_values, terminated, truncated, **rest):
        done = terminated | truncated
        return estimate(rewards, values, next_values, done, truncated, **rest)

    monkeypatch.setattr(compiled_statistics, "generalized_advantages", faulty)


def _time_limit_one_late(monkeypatch):
    step = compiled_rollout.step

    def faulty(environment, before, *rest):
        other = copy.copy(environment)
        other.max_episode_steps += 1
        return step(other, before, *rest)

    monkeypatch.setattr(compiled_rollout, "step", faulty)


def _unclipped_actions(monkeypatch):
    monkeypatch.setattr(
        compiled_rollout, "to_environment", lambda spec, actions: 1.5 * actions
    )


FAULTS = {
    "bootstrap from the reset observation": (_bootstrap_from_reset, "rollout"),
    "normaliser updated before the update": (_normalise_before_the_update, "state"),
    "scaled by returns over episodes' ends": (_scale_over_ends, "batch"),
    "truncation taken for termination": (_truncation_as_termination, "batch"),
    "time limit one step late": (_time_limit_one_late, "rollout"),
    "actions sent as sampled": (_unclipped_actions, "rollout"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_comparison_sees_a_planted_fault(fault, monkeypatch):
    plant, seen_in = FAULTS[fault]
    plant(monkeypatch)
    config = small_config("phys2d/Pendulum-v0", total_steps=2 * 120)
    errors = group(worst(compare(config, 16)))
    assert errors[seen_in] > 1e-6, errors


def test_members_equal_themselves_run_alone():
    config = small_config("phys2d/Pendulum-v0", eval_episodes=2, total_steps=4 * 120)
    sweep = {"target_kl": (0.003, 0.03), "gae_lambda": (0.9,), "cg_damping": (0.05,)}
    members = [member.config for member in members_of(config, 2, sweep)]
    assert len(members) == 4
    together = CompiledTrainer(members, longest_chunk=4, episodes=2)
    many = together.advance(4, evaluate=True)
    for index, member in enumerate(members):
        alone = CompiledTrainer([member], longest_chunk=4, episodes=2)
        one = alone.advance(4, evaluate=True)
        for left, right in zip(one.progress[0], many.progress[index], strict=True):
            for name, value in left.metrics.items():
                if not name.startswith("time/"):
                    np.testing.assert_allclose(
                        right.metrics[name], value, rtol=1e-9, atol=1e-12, err_msg=name
                    )
        np.testing.assert_allclose(
            many.evaluations[index].returns, one.evaluations[0].returns, rtol=1e-9
        )
        states = alone.get_state(), together.get_state(index)
        for name, array in states[0].items():
            error = np.linalg.norm(array * 1.0 - states[1][name])
            assert error <= BOUND * max(np.linalg.norm(array * 1.0), 1e-6), name
    # They are different runs.
    finals = [rows[-1].metrics["policy/surrogate_after"] for rows in many.progress]
    assert len(set(finals)) == 4


def test_members_that_take_turns_equal_members_at_once():
    config = small_config("phys2d/CartPole-v1", total_steps=2 * 120)
    members = [member.config for member in members_of(config, 3, {})]
    results = []
    for at_once in (3, 1):
        trainer = CompiledTrainer(members, longest_chunk=2, episodes=1)
        trainer.program = trainer.program._replace(members_at_once=at_once)
        trainer.advance(2)
        results.append([trainer.get_state(i) for i in range(3)])
    for left, right in zip(*results, strict=True):
        for name, array in left.items():
            np.testing.assert_allclose(right[name], array, rtol=1e-9, atol=1e-12)


def test_chunks_of_any_length_compile_once_and_make_the_same_run():
    config = small_config("phys2d/Pendulum-v0", total_steps=5 * 120, seed=7)
    ends = []
    for lengths in ((5,), (2, 1, 2), (4, 1)):
        trainer = CompiledTrainer([config], longest_chunk=5, episodes=1)
        before = run_chunk._cache_size()
        for length in lengths:
            trainer.advance(length, evaluate=length == 1)
        # The first of the three compiles, no other does.
        assert run_chunk._cache_size() == before + (len(ends) == 0)
        ends.append(trainer.get_state())
    for other in ends[1:]:
        for name, array in ends[0].items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)
    swept = dataclasses.replace(
        config, agent=dataclasses.replace(config.agent, gamma=0.9, target_kl=0.02)
    )
    before = run_chunk._cache_size()
    CompiledTrainer([swept], longest_chunk=5, episodes=1).advance(3)
    assert run_chunk._cache_size() == before
