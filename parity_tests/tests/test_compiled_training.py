"""The compiled loop equals the host's, and a member of many equals itself alone."""

import copy
import dataclasses

import jax
import numpy as np
import pytest

from parity_tests.common.process_setup import QUICK
from parity_tests.rings.compiled_lock_step import (
    compare,
    first_batch,
    group,
    small_config,
    worst,
)
from trpo.runs.members import members_of
from trpo_jax.loop import (
    iteration as compiled_iteration,
    rollout as compiled_rollout,
    statistics as compiled_statistics,
    trainer as compiled_run,
)
from trpo_jax.loop.program import run_chunk
from trpo_jax.loop.trainer import CompiledTrainer


BOUND = 1e-9
CASES = {
    # Cut off by the time limit only, in the middle of rollouts and at their end.
    "Pendulum": ("phys2d/Pendulum-v0", 16, {}),
    # Falls, and is cut off where it does not.
    "CartPole": ("phys2d/CartPole-v1", 18, {"optimizer_type": "sgd"}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_compiled_loop_equals_the_host_s(name):
    env_id, limit, options = CASES[name]
    iterations = list(compare(small_config(env_id, **options), limit))
    assert len(iterations) == 6
    ends = [
        sum(float(i[f"rollout/{kind}"].host.sum()) for i in iterations)
        for kind in ("terminated", "truncated")
    ]
    assert ends[1] > 10
    assert (ends[0] > 10) == (name == "CartPole")
    # The radius was cut, and not to nothing.
    assert all(0.1 < float(i["advantage_std"].host[0]) < 2.0 for i in iterations)
    # The policy moved, so there was an update to compare.
    first, last = (iterations[i]["state/policy.layers.0.weight"].host for i in (0, -1))
    assert np.linalg.norm(last - first) > 1e-3
    errors = worst(iterations)
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

    def faulty(program, numbers, state, rollout):
        obs = rollout.obs.reshape(-1, rollout.obs.shape[-1])
        moments = compiled_statistics.add(state.observation_moments, obs)
        early = state._replace(observation_moments=moments)
        return prepare_batch(program, numbers, early, rollout)

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
    "bootstrap from the reset observation": (
        _bootstrap_from_reset,
        "rollout/next_values",
    ),
    "normaliser updated before the update": (
        _normalise_before_the_update,
        "batch/obs",
    ),
    "scaled by returns over episodes' ends": (_scale_over_ends, "batch/returns"),
    "truncation taken for termination": (
        _truncation_as_termination,
        "batch/advantages",
    ),
    "time limit one step late": (_time_limit_one_late, "rollout/truncated"),
    "actions sent as sampled": (_unclipped_actions, "rollout/rewards"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_comparison_sees_a_planted_fault(fault, monkeypatch):
    config = small_config("phys2d/Pendulum-v0")
    plant, seen_in = FAULTS[fault]
    plant(monkeypatch)
    errors = worst([first_batch(config, 16)])
    assert errors[seen_in] > 1e-3, errors


def test_without_a_fault_the_first_batch_is_equal():
    errors = worst([first_batch(small_config("phys2d/Pendulum-v0"), 16)])
    assert max(errors.values()) <= BOUND, errors


@pytest.fixture(scope="module")
def quick_chunks():
    """`run_chunk`, compiled like that."""
    quick = jax.jit(run_chunk.__wrapped__, static_argnums=0, compiler_options=QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_run, "run_chunk", quick)
        yield quick


def trainer_of(*members):
    """All of equal shapes, so that they share compilations."""
    return CompiledTrainer(members, longest_chunk=4, episodes=2)


def assert_near(left, right):
    for name, array in left.items():
        error = np.linalg.norm(array * 1.0 - right[name])
        assert error <= BOUND * max(np.linalg.norm(array * 1.0), 1e-6), name


@pytest.mark.usefixtures("quick_chunks")
def test_members_equal_themselves_run_alone():
    config = small_config("phys2d/Pendulum-v0", total_steps=4 * 120)
    sweep = {"target_kl": (0.003, 0.03), "gae_lambda": (0.9,), "cg_damping": (0.05,)}
    members = [member.config for member in members_of(config, 2, sweep)]
    assert len(members) == 4
    together, in_turns = trainer_of(*members), trainer_of(*members)
    # By `vmap`, as on an accelerator; and one after the other, as on a CPU.
    together.program = together.program._replace(members_at_once=4)
    assert in_turns.program.members_at_once == 1
    many, played = together.advance(4), together.evaluate(2)
    in_turns.advance(4)
    for index, member in enumerate(members):
        alone = trainer_of(member)
        one, own = alone.advance(4), alone.evaluate(2)
        for left, right in zip(one[0], many[index], strict=True):
            for name, value in left.metrics.items():
                if not name.startswith("time/"):
                    np.testing.assert_allclose(
                        right.metrics[name], value, rtol=1e-9, atol=1e-12, err_msg=name
                    )
        np.testing.assert_allclose(played[index].returns, own[0].returns, rtol=1e-9)
        assert_near(alone.get_state(), together.get_state(index))
        assert_near(alone.get_state(), in_turns.get_state(index))
    # They are different runs.
    finals = [rows[-1].metrics["policy/surrogate_after"] for rows in many]
    assert len(set(finals)) == 4


def test_chunks_of_any_length_compile_once_and_make_the_same_run(quick_chunks):
    options = {"total_steps": 4 * 120, "seed": 7}
    config = small_config("phys2d/Pendulum-v0", **options)
    trainer_of(config).advance(1)
    compiled = quick_chunks._cache_size()
    ends = []
    for lengths in ((4,), (2, 1, 1), (3, 1)):
        trainer = trainer_of(config)
        for length in lengths:
            trainer.advance(length)
            if length == 1:
                trainer.evaluate(2)
        ends.append(trainer.get_state())
    for other in ends[1:]:
        for name, array in ends[0].items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)
    agent = dataclasses.replace(config.agent, gamma=0.9, target_kl=0.02)
    trainer_of(dataclasses.replace(config, agent=agent)).advance(3)
    assert quick_chunks._cache_size() == compiled
