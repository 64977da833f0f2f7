"""The compiled loop in chunks, members, resumes and another order of environments.

Of members with other seeds than 0, a schedule, and sizes that don't divide each other.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from parity_tests.common.process_setup import QUICK
from parity_tests.rings.compiled_lock_step import noise_of, small_config
from trpo.common.random_streams import (
    Purpose,
    RandomStream,
    device_key,
    episode_seed,
)
from trpo.config.agent import StepNumbers
from trpo.runs.members import members_of
from trpo.spaces.spaces import policy_spec
from trpo_jax.loop import iteration, trainer as compiled
from trpo_jax.loop.environment import functional_environment
from trpo_jax.loop.program import run_chunk
from trpo_jax.networks.pure_policy import to_environment


ENV_ID, LIMIT, SEED, EPISODES = "phys2d/CartPole-v1", 26, 3, 5
ENVS, STEPS, UPDATES = 3, 23, 6
BOUND = {"rtol": 1e-9, "atol": 1e-11}


def config(seed=SEED):
    # The radius is the schedule's alone, which is known without a rollout.
    return small_config(
        ENV_ID, seed=seed, num_envs=ENVS, rollout_steps=STEPS,
        total_steps=UPDATES * ENVS * STEPS, value_minibatch_size=0, value_epochs=2,
        target_kl=0.02, final_target_kl=0.005, final_value_lr=1e-4, gamma=0.9,
        gae_lambda=0.8, full_radius_advantage_std=0.0, policy_layer_sizes=(4,),
        critic_layer_sizes=(3,), cg_iters=3, backtrack_iters=3,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_chunks():
    """Programs that take less time to compile, and run slower."""
    quick = jax.jit(run_chunk.__wrapped__, static_argnums=0, compiler_options=QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "run_chunk", quick)
        yield


def trainer_of(*configs):
    environment = functional_environment(ENV_ID, LIMIT)
    return compiled.CompiledTrainer(
        configs, longest_chunk=3, episodes=EPISODES, environment=environment
    )


@pytest.fixture(scope="module")
def members():
    """Two members, and what they told of five updates, in chunks of 3 and 2."""
    named = members_of(config(), 2, {})
    assert [member.config.seed for member in named] == [SEED, SEED + 1]
    trainer = trainer_of(*(member.config for member in named))
    start = [trainer.get_state(index) for index in range(2)]
    rows = trainer.advance(3)
    middle = [trainer.get_state(index) for index in range(2)]
    later = trainer.advance(2)
    return trainer, start, middle, [a + b for a, b in zip(rows, later, strict=True)]


def states_of(trainer):
    return [trainer.get_state(index) for index in range(2)]


def assert_equal(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_each_member_has_the_streams_of_its_seed(members):
    trainer, start, *_ = members
    given = jax.device_get(trainer._members)
    for index, seed in enumerate((SEED, SEED + 1)):
        np.testing.assert_array_equal(given.key[index], device_key(seed))
        stream = RandomStream(seed, Purpose.EVALUATION_RESET)
        seeds = [episode_seed(stream, env_index=i, episode=0) for i in range(EPISODES)]
        np.testing.assert_array_equal(given.evaluation_seeds[index], seeds)
        environment = functional_environment(ENV_ID, LIMIT)
        first = [
            environment.functions.initial(key) for key in device_key(seed, 1, (ENVS,))
        ]
        np.testing.assert_allclose(start[index]["environment.obs"], first, rtol=1e-6)
        assert start[index]["random.seed"] == seed


def test_each_update_follows_the_schedule_and_says_so(members):
    *_, rows = members
    for of_member in rows:
        assert [row.update for row in of_member] == [1, 2, 3, 4, 5]
        for number, row in enumerate(of_member):
            share = number / (UPDATES - 1)
            radius = 0.02 + share * (0.005 - 0.02)
            assert row.metrics["policy/target_kl"] == pytest.approx(radius)
            # The full step has it by the local model, the damping's part left out.
            frac = row.metrics["policy/line_search_frac"]
            damped = 0.5 * 0.1 * row.metrics["policy/step_norm"] ** 2
            predicted = row.metrics["policy/predicted_kl"]
            assert predicted == pytest.approx(frac**2 * (radius - damped), rel=1e-6)
    assert any(r.metrics["policy/line_search_accepted"] for r in rows[0][3:])


def test_chunks_may_end_anywhere_and_a_run_be_resumed_twice(members):
    trainer, start, middle, _ = members
    again, third = (trainer_of(*trainer.configs) for _ in range(2))
    again.set_state(*start)
    again.advance(1)
    third.set_state(*states_of(again))
    assert_equal(states_of(third), states_of(again))
    again.set_state(*states_of(third))
    again.advance(2)
    assert_equal(states_of(again), middle)
    third.set_state(*states_of(again))
    third.advance(1)
    third.advance(1)
    assert_equal(states_of(third), states_of(trainer))


def test_episodes_are_whole_and_their_own(members):
    trainer, _, middle, rows = members
    for state, of_member in zip(middle, rows, strict=True):
        episodes = state["training.recent_episodes"]
        assert 5 < len(episodes) == state["training.episodes"] < 100
        # A step pays 1, so that a return is a length.
        np.testing.assert_array_equal(episodes[:, 0], episodes[:, 1])
        assert 2 < episodes[:, 1].min() < episodes[:, 1].max() <= LIMIT
        told = of_member[2].metrics
        assert told["rollout/episode_return_mean"] == pytest.approx(
            episodes[:, 0].mean()
        )
        assert told["rollout/episodes"] == len(episodes)
    for index, result in enumerate(trainer.evaluate(EPISODES)):
        np.testing.assert_array_equal(result.returns, result.lengths)
        assert len(set(result.lengths.tolist())) > 1
        some = trainer.evaluate(2)[index]
        np.testing.assert_array_equal(some.lengths, result.lengths[:2])


def test_environments_may_come_in_any_order_and_at_any_time():
    trainer = trainer_of(dataclasses.replace(config(), scale_returns=True))
    program, state = trainer.program, jax.device_get(trainer._state)
    head = trainer.spec.head
    numbers = StepNumbers(*map(np.float64, trainer.configs[0].numbers_at(0)))
    iterate = jax.jit(iteration.iterate, static_argnums=0, compiler_options=QUICK)

    def run(state, noise):
        found = jax.device_get(iterate(program, numbers, state, noise))
        return found.state, found.metrics

    noises = [noise_of(trainer.configs[0], head, update) for update in range(2)]
    first, _ = run(state, noises[0])
    wanted, report = run(first, noises[1])
    order = np.array([2, 0, 1])
    place = np.argsort(order)

    def moved(state):
        return state._replace(
            environments=jax.tree.map(lambda leaf: leaf[order], state.environments),
            discounted=state.discounted[order],
        )

    noise = noises[1]
    # A sample t B + b is in the place of its environment.
    rows, envs = np.divmod(noise.orders, ENVS)
    other = noise._replace(
        actions=noise.actions[:, order],
        transition_keys=noise.transition_keys[:, order],
        reset_keys=noise.reset_keys[:, order],
        orders=(rows * ENVS + place[envs]).astype(noise.orders.dtype),
    )
    found, other_report = run(moved(first), other)
    expected = moved(wanted)._replace(recent=None)
    for one, two in zip(
        jax.tree.leaves((found._replace(recent=None), other_report)),
        jax.tree.leaves((expected, report)),
        strict=True,
    ):
        np.testing.assert_allclose(one, two, **BOUND)
    # The same episodes, those of one step in the order of environments.
    np.testing.assert_allclose(
        np.sort(found.recent, axis=0), np.sort(wanted.recent, axis=0), **BOUND
    )
    # What it makes of a rollout does not depend on how many there were.
    shifted, _ = run(first._replace(update=first.update + 7), noise)
    assert shifted.update == wanted.update + 7
    for one, two in zip(
        jax.tree.leaves(shifted._replace(update=0)),
        jax.tree.leaves(wanted._replace(update=0)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=5),
        spaces.MultiDiscrete([3, 2], start=[5, -1]),
        spaces.Box(np.array([7, -3]), np.array([9, -2]), dtype=np.int64),
    ],
    ids=lambda space: type(space).__name__,
)
def test_actions_that_start_elsewhere_than_0_do_so_on_the_device(space):
    spec = policy_spec(spaces.Box(-1.0, 1.0, (2,), np.float64), space)
    sizes = spec.head.action_sizes
    actions = np.stack([np.arange(6) % size for size in sizes], axis=1)
    sent = to_environment(spec, jnp.asarray(actions, dtype=float))
    np.testing.assert_array_equal(sent, spec.to_environment(actions))
    assert all(space.contains(np.array(one)[()]) for one in np.asarray(sent))
    assert np.asarray(sent).min() != 0
