"""Statistics of timings and counts of arithmetic, each against another means."""

import itertools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.speed import flops, samples
from benchmarks.speed.problems import Size, make_problem, policy_mean, size


def test_summary_is_median_and_quartile_distance():
    summary = samples.summarize([5.0, 1.0, 2.0, 4.0, 3.0])
    assert summary == (3.0, 2.0, 5)
    with pytest.raises(ValueError, match="at least one"):
        samples.summarize([])


def test_interval_of_ratio_covers_the_true_one_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        slow = 3.0 * np.exp(0.1 * generator.standard_normal(15))
        fast = np.exp(0.1 * generator.standard_normal(15))
        found = samples.ratio(list(slow), list(fast))
        assert found.low <= found.value <= found.high
        covered += found.low <= 3.0 <= found.high
    assert covered >= 50


def test_rounds_that_are_slow_for_both_cancel():
    generator = np.random.default_rng(1)
    fast = np.exp(generator.standard_normal(15))
    paired = samples.ratio(list(2.0 * fast), list(fast))
    assert paired.low == pytest.approx(2.0)
    assert paired.high == pytest.approx(2.0)
    shuffled = samples.ratio(list(2.0 * generator.permutation(fast)), list(fast))
    assert shuffled.high - shuffled.low > 0.5


def test_nothing_is_claimed_within_the_noise_floor():
    generator = np.random.default_rng(2)
    noisy = [list(1.0 + 0.2 * generator.random(10)) for _ in range(4)]
    floor = samples.noise_floor([(noisy[0], noisy[1])])
    assert 1.0 < floor < 1.3
    assert not samples.ratio(noisy[2], noisy[3]).is_claimed(floor)
    doubled = [2.0 * value for value in noisy[2]]
    assert samples.ratio(doubled, noisy[3]).is_claimed(floor)
    assert samples.ratio(noisy[3], doubled).is_claimed(floor)
    # Neither without an A/A pair nor from a few rounds.
    assert not samples.ratio(doubled, noisy[3]).is_claimed(samples.noise_floor([]))
    assert not samples.ratio(doubled[:3], noisy[3][:3]).is_claimed(floor)


def test_unequal_rounds_are_refused():
    with pytest.raises(ValueError, match="as many samples of each"):
        samples.ratio([1.0, 2.0], [1.0])


def test_slope_and_geometric_mean():
    sizes = [1e3, 1e4, 1e5]
    assert samples.log_log_slope(sizes, [x**1.2 for x in sizes]) == pytest.approx(1.2)
    assert samples.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


WIDTHS = (17, 32, 24, 6)
N = 50


def mlp(weights, x):
    for weight in weights[:-1]:
        x = jnp.tanh(x @ weight)
    return x @ weights[-1]


def multiply_adds(function, *arguments) -> int:
    """Operations of all matrix products in a traced program, two per multiply-add."""
    return 2 * _products(jax.make_jaxpr(function)(*arguments).jaxpr)


def _products(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            total += _products(inner)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            inner_size = int(np.prod([shape[axis] for axis in contracted]))
            total += inner_size * int(np.prod(equation.outvars[0].aval.shape))
    return total


def test_operations_are_those_of_a_traced_program():
    weights = [jnp.ones(pair) for pair in itertools.pairwise(WIDTHS)]
    obs = jnp.ones((N, WIDTHS[0]))

    def outputs(at):
        return mlp(at, obs)

    assert flops.forward(N, WIDTHS).flops == multiply_adds(outputs, weights)

    loss_and_gradient = jax.value_and_grad(lambda at: outputs(at).sum())
    both = flops.forward(N, WIDTHS).plus(flops.backward(N, WIDTHS))
    assert both.flops == multiply_adds(loss_and_gradient, weights)

    _, jacobian = jax.linearize(outputs, weights)
    transpose = jax.linear_transpose(jacobian, weights)
    product = flops.fisher_product(N, WIDTHS)
    assert product.flops == multiply_adds(lambda v: transpose(jacobian(v)), weights)


def test_an_update_is_the_sum_of_its_parts():
    of = Size("any", N, 17, 6, (32, 24))
    critic = (17, 32, 24, 1)
    once = flops.forward(N, critic).flops + flops.backward(N, critic).flops
    more = flops.update(of, 10, 1, 11).flops - flops.update(of, 10, 1, 10).flops
    assert more == once
    product = flops.update(of, 11, 1, 1).flops - flops.update(of, 10, 1, 1).flops
    assert product == flops.fisher_product(N, WIDTHS).flops
    # As the README says.
    per_sample = flops.update(size("HalfCheetah", N, 64, 64), 10, 1, 10).flops / N
    assert per_sample == pytest.approx(0.75e6, rel=0.01)


def test_roofline_is_bound_by_whichever_is_slower():
    work = flops.Work(100.0, 10.0)
    assert work.seconds(peak_flops=10.0, bandwidth=100.0) == 10.0
    assert work.seconds(peak_flops=1000.0, bandwidth=1.0) == 10.0


def test_problem_is_on_policy_and_always_the_same():
    of = size("Pendulum", 256, 16, 16)
    problem, again = make_problem(of), make_problem(of)
    for name, array in problem.batch.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, again.batch[name])
    noise = problem.actions - policy_mean(problem.weights, problem.obs)
    want = -0.5 * (noise**2 + np.log(2 * np.pi)).sum(1, keepdims=True)
    np.testing.assert_allclose(problem.log_probs, want, rtol=1e-4)
