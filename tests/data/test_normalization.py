"""Running statistics: merged exactly, frozen between updates, saved whole."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays

from trpo.data.normalization import (
    VARIANCE_EPSILON,
    ObservationNormalizer,
    ReturnScaler,
    RunningMoments,
)


def state_of(owner) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in owner.get_state().items()}


@given(
    data=arrays.arrays(
        np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(-9, 9)
    ),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    offset=st.sampled_from([0.0, 1e6]),
)
def test_merged_batches_equal_one_pass(data, cuts, offset):
    data = data + offset
    moments = RunningMoments(3)
    for piece in np.split(data, sorted(min(cut, len(data)) for cut in cuts)):
        moments.update(piece)
    assert moments.count == len(data)
    tolerance = 1e-12 * (1.0 + offset)
    np.testing.assert_allclose(moments.mean, data.mean(0), rtol=1e-13, atol=tolerance)
    np.testing.assert_allclose(
        moments.std, np.sqrt(data.var(axis=0) + VARIANCE_EPSILON), rtol=1e-5, atol=1e-6
    )


def test_a_large_offset_costs_no_accuracy():
    data = 1e8 + np.random.default_rng(0).standard_normal((1000, 1))
    moments = RunningMoments(1)
    for piece in np.split(data, 50):
        moments.update(piece)
    np.testing.assert_allclose(moments.std, data.std(axis=0), rtol=1e-7)


def test_before_any_data_and_for_constant_data():
    moments = RunningMoments(2)
    assert (moments.mean.tolist(), moments.std.tolist()) == ([0, 0], [1, 1])
    moments.update(np.zeros((0, 2)))
    assert moments.count == 0
    moments.update(np.full((5, 2), 3.0))
    np.testing.assert_allclose(moments.std, np.sqrt(VARIANCE_EPSILON))
    normaliser = ObservationNormalizer(2)
    normaliser.moments = moments
    assert (normaliser.normalize(np.full((1, 2), 3.0), np.dtype("float32")) == 0).all()


def test_any_leading_shape_is_taken_as_so_many_vectors():
    data = np.random.default_rng(0).standard_normal((4, 5, 3))
    one, other = RunningMoments(3), RunningMoments(3)
    one.update(data)
    other.update(data.reshape(20, 3))
    assert state_of(one) == state_of(other)


def test_normalisation_is_frozen_until_an_update():
    data = np.random.default_rng(0).standard_normal((50, 3)) * 7 + 2
    normaliser = ObservationNormalizer(3, clip=1.5)
    normaliser.update(data)
    before = state_of(normaliser.moments)
    first = normaliser.normalize(data, np.dtype("float64"))
    assert first.tobytes() == normaliser.normalize(data, np.dtype("float64")).tobytes()
    assert state_of(normaliser.moments) == before
    expected = (data - data.mean(0)) / np.sqrt(data.var(0) + VARIANCE_EPSILON)
    np.testing.assert_allclose(first, np.clip(expected, -1.5, 1.5), rtol=1e-12)
    assert np.abs(first).max() == 1.5
    normaliser.update(data + 1)
    assert state_of(normaliser.moments) != before
    assert first.tobytes() != normaliser.normalize(data, np.dtype("float64")).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normalised_observations_have_the_agents_dtype(dtype):
    obs = np.float32(np.random.default_rng(0).standard_normal((5, 3)))
    normaliser = ObservationNormalizer(3)
    assert normaliser.normalize(obs, np.dtype(dtype)).dtype == dtype
    kept = obs.copy()
    normaliser.update(obs)
    normaliser.normalize(obs, np.dtype(dtype))[:] = 0
    assert (obs == kept).all()


def return_loop(rewards, done, valid, gamma):
    """Discounted return after each valid step, one environment at a time."""
    returns = []
    for b in range(rewards.shape[1]):
        running = 0.0
        for t in range(rewards.shape[0]):
            if not valid[t, b]:
                running = 0.0
                continue
            running = gamma * running + rewards[t, b]
            returns.append(running)
            if done[t, b]:
                running = 0.0
    return np.array(returns)


def random_rewards(steps=60, envs=3, seed=0):
    generator = np.random.default_rng(seed)
    rewards = generator.standard_normal((steps, envs)) + 1
    done = generator.random((steps, envs)) < 0.15
    # NEXT_STEP autoreset: the step after an episode's end is no transition.
    valid = np.ones_like(done)
    for t in range(1, steps):
        valid[t] = ~(done[t - 1] & valid[t - 1])
    rewards[~valid] = 5.0  # Not a reward: it must count for nothing.
    return rewards, done & valid, valid


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("cuts", [[], [20, 40], [1, 2, 3, 59]])
def test_return_scaler_equals_the_loop_however_it_is_cut(gamma, cuts):
    rewards, done, valid = random_rewards()
    scaler = ReturnScaler(3, gamma)
    assert scaler.scale == 1.0
    pieces = (np.split(array, cuts) for array in (rewards, done, valid))
    for piece in zip(*pieces, strict=True):
        scaler.update(*piece)
    returns = return_loop(rewards, done, valid, gamma)
    assert scaler.moments.count == len(returns) == valid.sum()
    expected = np.sqrt(returns.var() + VARIANCE_EPSILON)
    assert scaler.scale == pytest.approx(expected, rel=1e-12)


def test_episodes_do_not_leak_into_each_other():
    rewards = np.array([[1.0], [100.0], [1.0]])
    done = np.array([[False], [True], [False]])
    scaler = ReturnScaler(1, 0.9)
    scaler.update(rewards, done, np.ones_like(done))
    assert scaler.discounted.tolist() == [1.0]


def test_states_round_trip_and_are_copies():
    rewards, done, valid = random_rewards()
    scaler = ReturnScaler(3, 0.9)
    scaler.update(rewards[:30], done[:30], valid[:30])
    state = scaler.get_state()
    other = ReturnScaler(3, 0.9)
    other.set_state(state)
    for array in state.values():
        array += 99
    assert state_of(other) == state_of(scaler)
    for one in (scaler, other):
        one.update(rewards[30:], done[30:], valid[30:])
    assert state_of(other) == state_of(scaler)
    assert set(state) == {"count", "mean", "squared_deviations", "discounted"}
    assert all(array.dtype == np.float64 for array in state.values())
