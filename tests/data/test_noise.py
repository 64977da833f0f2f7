"""Random streams: addressable, independent, and the same on every machine."""

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from trpo.common.random_streams import (
    Purpose,
    RandomStream,
    device_key,
    episode_seed,
    minibatch_orders,
)


GOLDEN_FIRST = [-1.3355865833452616, 2.2688638557036995, 0.6133580196952357]
GOLDEN_ADDRESSED = [2.259139591460251, -0.26222663257992956]
GOLDEN_ORDERS = [[4, 1, 3, 0, 2], [2, 1, 4, 3, 0]]
GOLDEN_SEEDS = [476507150, 1990716987, 444251627, 1069445519]

seeds = st.integers(0, 2**63 - 1)
words = st.integers(0, 2**64 - 1)


@given(seed=seeds, counter=words, index=words, purpose=st.sampled_from(Purpose))
def test_a_draw_depends_on_its_address_alone(seed, counter, index, purpose):
    used = RandomStream(seed, purpose)
    # An odd number of 32-bit draws leaves half a word in the generator's buffer.
    used.at(3, 1).integers(2**31, size=7, dtype=np.int32)
    used.at(counter, index).standard_normal(5)
    again = used.at(counter, index).standard_normal(9)
    fresh = RandomStream(seed, purpose).at(counter, index).standard_normal(9)
    assert again.tobytes() == fresh.tobytes()


def test_different_addresses_never_share_a_draw():
    seen: dict[int, tuple] = {}
    for address in itertools.product(
        (0, 1, 2**63 - 1), Purpose, (0, 1, 2, 2**32, 2**64 - 1), (0, 1, 2**40)
    ):
        seed, purpose, counter, index = address
        generator = RandomStream(seed, purpose).at(counter, index)
        for number in generator.integers(2**64, size=16, dtype=np.uint64).tolist():
            assert seen.setdefault(number, address) == address


def test_streams_are_uncorrelated():
    draws = [
        RandomStream(seed, purpose).at(counter, index).standard_normal(4000)
        for seed, purpose, counter, index in itertools.product(
            (0, 1), (Purpose.ACTION, Purpose.MINIBATCH), (0, 1), (0, 1)
        )
    ]
    correlations = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlations).max() < 0.08  # Five standard errors.
    assert np.abs(np.mean(draws, axis=1)).max() < 0.08


# These constants are what makes a run repeatable: if they change, so does every run.
def test_golden_draws():
    stream = RandomStream(0, Purpose.ACTION)
    np.testing.assert_array_equal(stream.at(0).standard_normal(3), GOLDEN_FIRST)
    np.testing.assert_array_equal(stream.at(5, 2).standard_normal(2), GOLDEN_ADDRESSED)
    stream = RandomStream(2**63 - 1, Purpose.MINIBATCH)
    orders = minibatch_orders(stream.at(0), epochs=2, size=5)
    assert orders.tolist() == GOLDEN_ORDERS
    stream = RandomStream(7, Purpose.TRAINING_RESET)
    assert [
        episode_seed(stream, env_index=env, episode=episode)
        for env in (0, 1)
        for episode in (0, 1)
    ] == GOLDEN_SEEDS
    assert device_key(3, 1, (2,)).tolist() == [
        [1954534978, 3737588162],
        [3649522838, 4134177372],
    ]
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "POLICY_WEIGHTS": 1,
        "CRITIC_WEIGHTS": 2,
        "ACTION": 3,
        "MINIBATCH": 4,
        "TRAINING_RESET": 5,
        "EVALUATION_RESET": 6,
        "PROBE": 7,
        "DEVICE": 8,
        "COST_CRITIC_WEIGHTS": 9,
    }


@given(epochs=st.integers(1, 6), size=st.integers(1, 300), seed=seeds, counter=words)
def test_minibatch_orders_are_permutations(epochs, size, seed, counter):
    stream = RandomStream(seed, Purpose.MINIBATCH)
    orders = minibatch_orders(stream.at(counter), epochs=epochs, size=size)
    assert (orders.shape, orders.dtype) == ((epochs, size), np.int32)
    np.testing.assert_array_equal(
        np.sort(orders, axis=1), np.tile(np.arange(size), (epochs, 1))
    )


def test_minibatch_orders_differ_and_every_position_is_uniform():
    stream = RandomStream(0, Purpose.MINIBATCH)
    orders = minibatch_orders(stream.at(0), epochs=4000, size=4)
    assert len({tuple(order) for order in orders.tolist()}) == 24
    for position in range(4):
        counts = np.bincount(orders[:, position], minlength=4)
        # Binomial(4000, 1/4): standard deviation 27.4.
        assert np.abs(counts - 1000).max() < 5 * 27.4


def test_episode_seeds_fit_gymnasium_and_differ():
    stream = RandomStream(0, Purpose.TRAINING_RESET)
    found = {
        episode_seed(stream, env_index=env, episode=episode)
        for env in range(20)
        for episode in range(20)
    }
    assert len(found) == 400
    assert all(0 <= seed < 2**31 for seed in found)


@pytest.mark.parametrize("bad", [-1, 2**64])
def test_addresses_outside_64_bits_are_refused(bad):
    with pytest.raises(OverflowError):
        RandomStream(bad, Purpose.ACTION)
    with pytest.raises(OverflowError):
        RandomStream(0, Purpose.ACTION).at(bad)
