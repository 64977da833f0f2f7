"""Simulated rounding: as large as Monte-Carlo arithmetic says, in both frameworks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from jax import lax

from parity_kit.noise.jax_noise import with_rounding_noise
from parity_kit.noise.torch_noise import rounding_noise


UNIT = 2.0**-24
RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((40, 30)), RNG.standard_normal((30, 20))
LONG = RNG.random((3, 6400))
SQUARE = np.eye(5) * 3 + X[:5, :5] @ X[:5, :5].T


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def torch_spread(function, *arrays, runs=8):
    given = [torch.tensor(a) for a in arrays]
    exact = function(*given).detach()
    errors = []
    for seed in range(runs):
        with rounding_noise(seed):
            errors.append((function(*given).detach() - exact).norm())
    return float(torch.stack(errors).square().mean().sqrt() / exact.norm()) / UNIT


def jax_spread(function, *arrays, runs=8):
    given = [jnp.asarray(a) for a in arrays]
    exact = function(*given)
    noisy = [with_rounding_noise(function, k)(*given) - exact for k in range(runs)]
    errors = [float(jnp.linalg.norm(e)) for e in noisy]
    return np.sqrt(np.mean(np.square(errors))) / float(jnp.linalg.norm(exact)) / UNIT


def predicted_sum(rows):
    """One error of each running total after 64 terms, the first apart, and the last."""
    totals = rows.reshape(len(rows), -1, 64).sum(-1).cumsum(-1)
    squares = (totals[:, 1:] ** 2).sum(-1) + totals[:, -1] ** 2
    return np.sqrt(squares.sum()) / np.linalg.norm(totals[:, -1])


def scanned(x):
    return lax.scan(lambda c, row: (jnp.tanh(c + row), c), x[0], x)[0]


def looped(x):
    again = lambda c: (c[0] + 1, jnp.sin(c[1]))
    return lax.while_loop(lambda c: c[0] < 9, again, (0, x))[1]


def in_place_of_a_list(x):
    arrays = [x.clone()]
    torch._foreach_exp_(arrays)
    return arrays[0]


@pytest.mark.parametrize(
    ("torch_side", "jax_side", "arrays", "expected"),
    [
        (torch.exp, jnp.exp, [X], 1.0),
        (lambda x: x.clone().exp_(), jnp.exp, [X], 1.0),
        # As optimisers do, without a result.
        (in_place_of_a_list, jnp.exp, [X], 1.0),
        (lambda x: x * 2 + 1, lambda x: x * 2 + 1, [X], None),
        (torch.matmul, jnp.matmul, [X, W], 1.0),
        (lambda x: x.sum(1), lambda x: x.sum(1), [LONG], predicted_sum(LONG)),
        (lambda x: x @ x.new_ones(6400), lambda x: x @ jnp.ones(6400), [LONG],
         predicted_sum(LONG)),
        # What is only chosen or moved is exact.
        (lambda x: torch.cat([x.relu(), x.T.flip(0).reshape(40, 30)]).sort(0)[0],
         lambda x: jnp.sort(jnp.concatenate([jnp.maximum(x, 0), x.T[::-1]
                                             .reshape(40, 30)]), 0), [X], 0.0),
        (lambda x: torch.stack([x, -x]).tile(2, 1, 1),
         lambda x: jnp.tile(jnp.stack([x, -x]), (2, 1, 1)), [X], 0.0),
        (lambda x: torch.nn.functional.max_pool1d(x[None], 2)[0],
         lambda x: lax.reduce_window(x, -np.inf, lax.max, (1, 2), (1, 2), "VALID"),
         [X], 0.0),
        # So is what a power of two scales, and a sum of one term.
        (lambda x: (x * 2 / 4).exp() * 0.5, lambda x: jnp.exp(x * 2 / 4) * 0.5,
         [X], 1.0),
        (lambda x: x[:, None].mean(1)[:, None].sum(1) / 1,
         lambda x: x[:, None].mean(1)[:, None].sum(1) / 1, [X], 0.0),
        (lambda x: x[:, :1].exp().sum(1), lambda x: jnp.exp(x[:, :1]).sum(1), [X], 1.0),
        (lambda x: torch.softmax(x, 1), lambda x: jax.nn.softmax(x, 1), [X], None),
        (torch.linalg.solve, jnp.linalg.solve, [SQUARE, X[:5, 0]], None),
        (lambda x: x.var(0), lambda x: x.var(0, ddof=1), [X], None),
    ],
)  # fmt: skip
def test_an_operation_has_the_same_noise_in_both(
    torch_side, jax_side, arrays, expected
):
    one, two = torch_spread(torch_side, *arrays), jax_spread(jax_side, *arrays)
    if expected is not None:
        assert one == pytest.approx(expected, rel=0.25)
        assert two == pytest.approx(expected, rel=0.25)
    else:
        # Five numbers of a solution vary more than a thousand of a softmax.
        assert one == pytest.approx(two, rel=0.6 if len(arrays) > 1 else 0.3)


@jax.custom_vjp
def doubled(x):
    return jnp.sin(x)


doubled.defvjp(
    lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x) * jnp.float64(2),)
)


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [
        (scanned, 0.7, 3.0),
        (looped, 0.5, 3.0),
        (lambda x: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x), 0.9, 1.1),
        (lambda x: lax.map(jnp.exp, x), 0.9, 1.1),
        (jax.jit(jax.vmap(jnp.exp)), 0.9, 1.1),
        (jax.grad(lambda x: jax.checkpoint(jnp.sin)(x).sum()), 1.2, 1.7),
        (doubled, 0.9, 1.1),
        (jax.grad(lambda x: doubled(x).sum()), 1.2, 2.0),
        (jax.nn.relu, 0.0, 0.0),
        (lambda x: jax.jvp(jnp.exp, (x,), (x,))[1], 1.2, 1.7),
    ],
)
def test_control_flow_and_rules_of_its_own(function, low, high):
    assert low <= jax_spread(function, X) <= high


def test_what_is_computed_twice_is_rounded_alike():
    """A difference of the two is zero, as it is in any real precision."""
    twice = lambda x: jnp.exp(x) - jax.jit(jnp.exp)(x) + x
    assert jax_spread(twice, X) == pytest.approx(1.0, rel=0.1)


def test_loops_draw_anew_at_each_step():
    """Errors of 100 steps add up as a random walk's, not as one step's hundredfold."""
    steps = lambda x: lax.fori_loop(0, 100, lambda _, v: v * jnp.float64(0.9), x)
    assert jax_spread(steps, X) == pytest.approx(10.0, rel=0.2)


def test_a_network_s_gradient_is_predicted_for_real_float32():
    model = torch.nn.Sequential(
        torch.nn.Linear(30, 64), torch.nn.LayerNorm(64), torch.nn.GELU(),
        torch.nn.Linear(64, 3),
    )  # fmt: skip
    x = torch.tensor(X)

    def gradient(x):
        model.to(x.dtype).zero_grad()
        model(x).square().mean().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()]).double()

    short = gradient(x.float())
    exact = gradient(x.float().double())
    spread = torch_spread(gradient, x.float().double().numpy())
    error = float((short - exact).norm() / exact.norm()) / UNIT
    assert 1 / 3 < error / spread < 3


def test_optimiser_steps_are_noisy_as_well():
    def torch_steps(w):
        w = w.clone().requires_grad_()
        optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad()
            w.square().sum().backward()
            optimizer.step()
        return w

    def jax_steps(w):
        optimizer = optax.sgd(0.1, momentum=0.9)
        state = optimizer.init(w)
        for _ in range(5):
            update, state = optimizer.update(jax.grad(lambda v: (v**2).sum())(w), state)
            w = optax.apply_updates(w, update)
        return w

    one, two = torch_spread(torch_steps, X), jax_spread(jax_steps, X)
    assert one == pytest.approx(two, rel=0.5)
    assert one > 1.0


def test_noise_is_reproducible_and_leaves_nothing_behind():
    x = torch.tensor(X)
    with rounding_noise(3):
        first = x.exp()
    with rounding_noise(3):
        second = x.exp()
    assert torch.equal(first, second)
    assert torch.equal(x.exp(), torch.tensor(X).exp())
    assert not torch.equal(first, x.exp())
    with rounding_noise(3):  # No room for it in float32.
        assert torch.equal(x.float().exp(), x.float().exp())
    noisy = with_rounding_noise(jnp.exp, 3)
    assert (noisy(X) == noisy(X)).all()
    assert (noisy(X) != with_rounding_noise(jnp.exp, 4)(X)).any()
