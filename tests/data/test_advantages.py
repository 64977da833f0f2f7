"""Advantages against the definition, summed episode by episode."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays

from trpo.data.advantages import generalized_advantages, normalize_advantages


GAMMA, LAMBDA = 0.9, 0.7


def brute_force(rewards, values, next_values, terminated, truncated, gamma, lambda_):
    """A_t = sum_k (gamma lambda)^k delta_{t+k}, to the end of t's own episode."""
    steps, envs = rewards.shape
    advantages = np.zeros((steps, envs))
    for b in range(envs):
        for t in range(steps):
            for k in range(t, steps):
                bootstrap = 0.0 if terminated[k, b] else next_values[k, b]
                delta = rewards[k, b] + gamma * bootstrap - values[k, b]
                advantages[t, b] += (gamma * lambda_) ** (k - t) * delta
                if terminated[k, b] or truncated[k, b]:
                    break
    return advantages


@st.composite
def rollouts(draw):
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 4)))
    numbers = arrays.arrays(np.float64, shape, elements=st.floats(-10, 10, width=32))
    flags = arrays.arrays(np.bool_, shape)
    return [draw(kind) for kind in (numbers, numbers, numbers, flags, flags)]


unit = st.floats(0.0, 1.0)


@given(rollout=rollouts(), gamma=unit, lambda_=unit)
def test_equals_the_double_loop(rollout, gamma, lambda_):
    advantages, returns = generalized_advantages(
        *rollout, gamma=gamma, gae_lambda=lambda_
    )
    expected = brute_force(*rollout, gamma, lambda_)
    np.testing.assert_allclose(advantages, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(returns, expected + rollout[1], rtol=1e-10, atol=1e-10)
    assert advantages.dtype == returns.dtype == np.float64


def random_rollout(steps=10, envs=3):
    generator = np.random.default_rng(0)
    numbers = [generator.standard_normal((steps, envs)) for _ in range(3)]
    flags = [np.zeros((steps, envs), dtype=bool) for _ in range(2)]
    return [*numbers, *flags]


def gae(rollout):
    return generalized_advantages(*rollout, gamma=GAMMA, gae_lambda=LAMBDA)[0]


@pytest.mark.parametrize("flag", [3, 4])
def test_nothing_leaks_across_an_episode_border(flag):
    rollout = random_rollout()
    rollout[flag][4, 1] = True
    before = gae(rollout)
    for field in (0, 1, 2):
        rollout[field][5:, 1] += 1e6
        rollout[field][:, [0, 2]] += 1e6
    after = gae(rollout)
    assert before[:5, 1].tobytes() == after[:5, 1].tobytes()
    assert (before[5:, 1] != after[5:, 1]).all()


def test_termination_drops_the_bootstrap_and_truncation_keeps_it():
    rollout = random_rollout()
    rollout[3][4, 0] = rollout[4][4, 1] = True
    rollout[3][4, 2] = rollout[4][4, 2] = True  # Both at once: terminal.
    rewards, values, next_values, *_ = rollout
    advantages = gae(rollout)[4]
    deltas = rewards[4] - values[4]
    expected = deltas + GAMMA * next_values[4] * [0, 1, 0]
    np.testing.assert_allclose(advantages, expected, rtol=1e-14)
    # A value that is not used may be anything, NaN included.
    rollout[2][4, [0, 2]] = np.nan
    assert (gae(rollout)[4] == advantages).all()


def test_the_last_step_bootstraps_from_its_next_value():
    rollout = random_rollout(steps=1)
    rewards, values, next_values, *_ = rollout
    np.testing.assert_allclose(gae(rollout), rewards + GAMMA * next_values - values)


def test_float32_and_integer_inputs_are_summed_in_float64():
    rollout = random_rollout()
    rollout = [np.float32(array) for array in rollout[:3]] + [
        np.uint8(array) for array in rollout[3:]
    ]
    exact = gae([np.float64(array) for array in rollout[:3]] + rollout[3:])
    np.testing.assert_allclose(gae(rollout), exact, rtol=1e-6, atol=1e-6)
    assert gae(rollout).dtype == np.float64


def test_inputs_are_left_alone():
    rollout = random_rollout()
    copies = [array.copy() for array in rollout]
    gae(rollout)
    assert all((a == b).all() for a, b in zip(rollout, copies, strict=True))


@pytest.mark.parametrize("field", range(5))
@pytest.mark.parametrize("shape", [(10,), (10, 1), (9, 3), (10, 3, 1)])
def test_other_shapes_are_refused(field, shape):
    rollout = random_rollout()
    rollout[field] = np.zeros(shape)
    with pytest.raises(ValueError, match="one shape"):
        gae(rollout)


finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(arrays.arrays(np.float64, st.integers(2, 50), elements=finite, unique=True))
def test_normalised_advantages_have_mean_0_and_deviation_1(advantages):
    normalised = normalize_advantages(advantages)
    if advantages.std() < 1e-9 * np.abs(advantages).max():
        return
    assert abs(normalised.mean()) < 1e-6
    np.testing.assert_allclose(normalised.std(), 1.0, rtol=1e-6)
    assert (np.diff(normalised[np.argsort(advantages)]) >= 0.0).all()


@given(number=finite, size=st.integers(1, 500))
def test_equal_advantages_become_exactly_zero(number, size):
    assert (normalize_advantages(np.full(size, number)) == 0.0).all()


def test_normalisation_keeps_shape_and_scale_invariance():
    advantages = np.random.default_rng(0).standard_normal((7, 3))
    normalised = normalize_advantages(advantages)
    assert normalised.shape == (7, 3)
    assert normalize_advantages(4.0 * advantages).tobytes() == normalised.tobytes()
    assert normalize_advantages(1e-30 * advantages).std() == pytest.approx(1.0)
    assert normalize_advantages(np.float32(advantages)).dtype == np.float64
