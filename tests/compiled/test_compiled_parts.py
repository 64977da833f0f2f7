"""Parts of compiled training, each against something written otherwise."""

import collections

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiled.test_compiled_command import small
from trpo.common.random_streams import device_key
from trpo.rollout.transitions import NonFiniteTransitionError
from trpo.spaces.action_heads import Head
from trpo_jax.loop import statistics as compiled_statistics
from trpo_jax.loop.environment import (
    FunctionalEnvironment,
    functional_environment,
    shipped_ids,
    start,
    step,
)
from trpo_jax.loop.rollout import DeviceRollout, draw_noise, newest_episodes
from trpo_jax.loop.trainer import CompiledTrainer
from trpo_jax.networks.pure_policy import to_environment


def test_newest_episodes_are_those_of_a_queue():
    generator = np.random.default_rng(0)
    recent, queue = jnp.zeros((100, 2)), collections.deque(maxlen=100)
    total = 0
    # Few at first, then more than fit at once.
    for rate in (0.02, 0.1, 0.0, 0.5, 0.9):
        done = generator.random((40, 6)) < rate
        returns = generator.standard_normal((40, 6)).astype(np.float32)
        lengths = generator.integers(1, 9, (40, 6)).astype(np.int32)
        blank = dict.fromkeys(DeviceRollout._fields)
        rollout = DeviceRollout(
            **blank
            | {
                "terminated": jnp.asarray(done),
                "truncated": jnp.zeros_like(jnp.asarray(done)),
                "episode_return": jnp.asarray(returns),
                "episode_length": jnp.asarray(lengths),
            }
        )
        recent, count = newest_episodes(recent, rollout)
        queue.extend(zip(returns[done], lengths[done], strict=True))
        total += int(done.sum())
        assert int(count) == done.sum()
        np.testing.assert_array_equal(
            np.asarray(recent)[100 - min(total, 100) :], np.array(queue).reshape(-1, 2)
        )
    assert total > 200


def test_noise_is_a_function_of_key_and_update_and_looks_random():
    gaussian = Head(2)

    def draw(key, update, head=gaussian):
        key, update = jnp.asarray(key), jnp.int32(update)
        return draw_noise(
            key, update, head=head, shape=(50, 8), epochs=4, dtype="float32"
        )

    first, again = draw(device_key(3), 5), draw(device_key(3), 5)
    others = [draw(device_key(3), 6), draw(device_key(4), 5)]
    for name, array in first._asdict().items():
        np.testing.assert_array_equal(array, getattr(again, name))
        for other in others:
            assert np.mean(np.asarray(array) == np.asarray(getattr(other, name))) < 0.05
    np.testing.assert_array_equal(
        np.sort(first.orders, axis=1), np.tile(np.arange(400), (4, 1))
    )
    assert abs(float(first.actions.mean())) < 0.15
    assert abs(float(first.actions.std()) - 1.0) < 0.1
    uniform = draw(device_key(3), 5, Head(1, "categorical", (2,))).actions
    assert 0.0 <= float(uniform.min()) < 0.02 < 0.98 < float(uniform.max()) < 1.0


def test_a_step_follows_the_environment_and_resets_in_the_same_step():
    environment = functional_environment("phys2d/CartPole-v1", 7)
    keys = jnp.asarray(device_key(0, 0, (5,)))
    state = jax.jit(start, static_argnums=0)(environment, keys)
    advance = jax.jit(step, static_argnums=0)
    lengths = np.zeros(5, int)
    for t in range(20):
        words = jnp.asarray(device_key(1, t, (2, 5)))
        actions = jnp.asarray([0, 1, t % 2, 0, 1])
        before = state
        state, transition = advance(environment, before, actions, *words)
        lengths += 1
        done = np.asarray(transition.terminated | transition.truncated)
        np.testing.assert_array_equal(transition.episode_length, lengths)
        np.testing.assert_array_equal(transition.truncated, lengths >= 7)
        np.testing.assert_array_equal(transition.episode_return, lengths)
        for i in range(5):
            raw = environment.functions.transition(before.state[i], actions[i], None)
            np.testing.assert_allclose(transition.final_obs[i], raw, rtol=1e-6)
            expected = environment.functions.initial(words[1, i]) if done[i] else raw
            np.testing.assert_allclose(state.obs[i], expected, rtol=1e-6)
        lengths[done] = 0
        np.testing.assert_array_equal(state.steps, lengths)


# Gymnasium's own, at each use of it.
OUT_OF_DATE = pytest.mark.filterwarnings("ignore:.*CartPole-v0 is out of date")


@OUT_OF_DATE
@pytest.mark.parametrize("env_id", shipped_ids())
def test_actions_reach_the_environment_as_from_the_host(env_id):
    spec = functional_environment(env_id).spec
    actions = np.linspace(-3.0, 3.0, 7)[:, None].astype(np.float32)
    if spec.head.family.discrete:
        actions = np.array([[0.0], [1.0]], np.float32)
    sent = to_environment(spec, jnp.asarray(actions))
    np.testing.assert_array_equal(sent, spec.to_environment(actions))


def test_equal_advantages_become_zero_and_others_unit():
    normalize = jax.jit(compiled_statistics.normalize_advantages)
    np.testing.assert_array_equal(normalize(jnp.full((4, 3), 0.1)), 0.0)
    wide = normalize(jnp.asarray(np.random.default_rng(0).normal(5.0, 3e20, (40, 30))))
    assert abs(float(wide.mean())) < 1e-5
    assert float(wide.std()) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("place", "value"),
    [("reward", jnp.nan), ("observation", 1e30), ("initial", jnp.nan)],
)
def test_a_non_finite_environment_is_reported_and_nothing_kept(place, value):
    class Broken(type(functional_environment("phys2d/Pendulum-v0").functions)):
        def reward(self, state, action, next_state, rng, params=None):
            spoils = (place == "reward") & (jnp.abs(next_state[1]) > 1.0)
            return jnp.where(spoils, value, 0.0)

        def observation(self, state, rng, params=None):
            obs = super().observation(state, rng)
            spoils = (place == "observation") & (jnp.abs(state[1]) > 1.0)
            return obs.at[0].set(jnp.where(spoils, value, obs[0]))

        def initial(self, rng, params=None):
            state = super().initial(rng)
            return jnp.full_like(state, value) if place == "initial" else state

    trainer = CompiledTrainer(
        [small()],
        longest_chunk=6,
        episodes=1,
        environment=FunctionalEnvironment(Broken(), 200),
    )
    before = trainer.get_state()
    with pytest.raises(NonFiniteTransitionError, match="update 1 of phys2d/Pendulum"):
        trainer.advance(6)
    for name, array in trainer.get_state().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


@OUT_OF_DATE
def test_shipped_environments_have_time_limits():
    assert len(shipped_ids()) >= 3
    for env_id in shipped_ids():
        limit = gymnasium.spec(env_id).max_episode_steps
        assert functional_environment(env_id).max_episode_steps == limit


def test_an_id_that_is_registered_anew_is_the_new_environment():
    env_id = "phys2d/Pendulum-v0"
    spec, before = gymnasium.spec(env_id), functional_environment(env_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spec, "max_episode_steps", 10)
        assert functional_environment(env_id).max_episode_steps == 10
    assert functional_environment(env_id) is before
