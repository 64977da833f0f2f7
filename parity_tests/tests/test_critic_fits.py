"""Every way to fit a critic, where what it has to find is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import torch

from parity_tests.common.canonical import flatten
from parity_tests.common.process_setup import QUICK
from parity_tests.problems import cases
from parity_tests.reference import critic as reference_critic
from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch
from trpo_jax import lbfgs as jax_lbfgs
from trpo_jax.agent import state as jax_state
from trpo_jax.agent.update import build_value_optimizer
from trpo_jax.critic import fit as jax_fit, loss as jax_loss
from trpo_jax.networks.feedforward import critic_function
from trpo_torch import lbfgs as torch_lbfgs
from trpo_torch.agent import state as torch_state
from trpo_torch.critic import fit as torch_fit, loss as torch_loss
from trpo_torch.networks.feedforward import Critic


BACKENDS = ("torch", "jax")
OBS_DIM, SIZE = 4, 30


def problem(seed=0):
    rng = np.random.default_rng(seed)
    obs, returns = rng.standard_normal((SIZE, OBS_DIM)), rng.standard_normal((SIZE, 1))
    weights = {
        "value.layers.0.weight": rng.standard_normal((1, OBS_DIM)),
        "value.layers.0.bias": rng.standard_normal(1),
    }
    return obs, 2.0 * returns + obs[:, :1], weights


def fit(backend, obs, returns, weights, layers=(), **options):
    """Values before and after the fit of a critic, and its weights [p]."""
    config = TRPOConfig(dtype="float64", **{"value_epochs": 1, **options})
    orders = np.tile(np.arange(len(obs), dtype=np.int32), (config.value_epochs, 1))
    if backend == "torch":
        batch = Batch(*(torch.from_numpy(a) for a in (obs, returns, *[returns] * 3)))
        critic = Critic(obs.shape[1], layers).double()
        torch_state.load_network(critic, weights, "value.")
        before = critic(batch.obs).detach().numpy()
        optimizer = torch.optim.Adam(critic.parameters(), config.value_lr, eps=1e-5)
        torch_fit.fit_critic(critic, optimizer, batch, orders, config)
        after = torch_state.network_arrays(critic, "value.")
        return before, critic(batch.obs).detach().numpy(), flatten(after, "value.")
    batch = Batch(*map(jnp.asarray, (obs, returns, *[returns] * 3)))
    critic = critic_function(obs.shape[1], layers)
    tree = jax.tree.map(jnp.asarray, jax_state.load_network(weights, "value."))
    optimizer = build_value_optimizer(config, config.value_lr)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(tree):
        given = (optimizer, optimizer.init(tree), batch, jnp.asarray(orders), config)
        return jax_fit.fit_critic(critic, tree, *given)[0]

    new = run(tree)
    before, after = (np.asarray(critic(t, batch.obs)) for t in (tree, new))
    return before, after, flatten(jax_state.network_arrays(new, "value."), "value.")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("how", "tolerance"),
    [
        # One step, of as many products as there are parameters.
        ({"value_fit": "gauss_newton", "value_damping": 0.0,
          "value_target_kl": 1e12, "cg_residual_tol": 1e-28}, 1e-10),
        ({"value_fit": "lbfgs", "value_epochs": 60}, 1e-4),
    ],
    ids=["gauss_newton", "lbfgs"],
)  # fmt: skip
def test_a_linear_critic_becomes_the_least_squares_solution(backend, how, tolerance):
    obs, returns, weights = problem()
    columns = np.hstack([obs, np.ones((SIZE, 1))])
    want = np.linalg.lstsq(columns, returns, rcond=None)[0][:, 0]
    _, _, found = fit(backend, obs, returns, weights, **how)
    np.testing.assert_allclose(found, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
def test_damping_is_the_dense_ridge_step(backend):
    obs, returns, weights = problem()
    columns = np.hstack([obs, np.ones((SIZE, 1))])
    start = flatten(weights, "value.")
    matrix = columns.T @ columns / SIZE + 0.3 * np.eye(OBS_DIM + 1)
    errors = columns @ start - returns[:, 0]
    want = start - np.linalg.solve(matrix, columns.T @ errors / SIZE)
    _, _, found = fit(
        backend, obs, returns, weights, value_fit="gauss_newton", value_damping=0.3,
        value_target_kl=1e12, cg_residual_tol=1e-28,
    )  # fmt: skip
    np.testing.assert_allclose(found, want, rtol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_ends_on_the_values_trust_region(backend):
    (obs, returns, weights), radius = problem(), 0.02
    before, after, _ = fit(
        backend, obs, returns, weights, value_fit="gauss_newton", value_damping=0.0,
        value_target_kl=radius, backtrack_coeff=0.999,
    )  # fmt: skip
    variance = ((before - returns) ** 2).mean()
    kl = ((after - before) ** 2).mean() / (2.0 * variance)
    # A linear critic: the border itself, or the candidate after it.
    assert 0.998 * radius < kl <= radius


@pytest.mark.parametrize("name", ["critic_gauss_newton", "critic_lbfgs"])
def test_no_step_raises_the_loss(name):
    for seed in range(3):
        made = cases.build(name, seed)
        _, _, losses = reference_critic.fit_critic(made, lambda array: array)
        # Where no candidate is better, a step is none.
        assert (np.diff(losses) <= 0.0).all()
        assert losses[-1] < losses[0]


def rosenbrock(xp):
    def loss(x):
        return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    return loss


def minimized(backend, loss, x, max_steps):
    """Where a backend's search ends, and after how many steps."""
    if backend == "torch":

        def function(x):
            x = x.detach().requires_grad_()
            value = loss(torch)(x)
            return value.detach(), torch.autograd.grad(value, x)[0]

        end = torch_lbfgs.minimize(function, torch.from_numpy(x), max_steps)
        return end.point.x.numpy(), end.num_steps
    function = jax.value_and_grad(loss(jnp))
    end = jax.jit(lambda x: jax_lbfgs.minimize(function, x, max_steps))(x)
    return np.asarray(end.point.x), int(end.num_steps)


def test_lbfgs_needs_no_more_steps_than_scipys_on_a_curved_valley():
    x = np.linspace(-1.0, 0.5, 6)
    scipys = scipy.optimize.minimize(
        rosenbrock(np), x, jac=lambda x: scipy.optimize.rosen_der(x), method="L-BFGS-B",
        options={"gtol": 1e-5, "ftol": 0.0},
    )  # fmt: skip
    ends = [minimized(backend, rosenbrock, x, 200) for backend in BACKENDS]
    for end, steps in ends:
        np.testing.assert_allclose(end, np.ones(6), atol=1e-4)
        assert steps <= 1.2 * scipys.nit
    assert ends[0][1] == ends[1][1]
    # The oracle that ring A compares with is the same method, by dense matrices.
    dense, losses = reference_critic.minimize(
        lambda x: (rosenbrock(np)(x), scipy.optimize.rosen_der(x)), x, 12
    )
    for backend in BACKENDS:
        np.testing.assert_allclose(
            minimized(backend, rosenbrock, x, 12)[0], dense, rtol=1e-8
        )
    assert losses[-1] < 0.2 * losses[0]


LOSSES = {
    "squared_error": {},
    "huber": {"value_loss": "huber", "huber_delta": 0.7},
    "clipped": {"value_clip": 0.4},
    "huber, clipped": {"value_loss": "huber", "huber_delta": 0.7, "value_clip": 0.4},
}


def per_sample(backend, values, returns, old, options):
    """Loss, slope, curvature, and the loss's own derivative by the framework."""
    config = TRPOConfig(**options)
    if backend == "torch":
        tensors = [torch.from_numpy(a) for a in (values, returns, old)]
        at = tensors[0].requires_grad_()
        targets = torch_loss.Targets(tensors[1], None, tensors[2])
        loss = torch_loss.value_loss(config)
        terms, slopes = loss.of(at, targets)
        (derivative,) = torch.autograd.grad(terms.sum(), at)
        found = (terms, slopes, loss.curvature(at, targets), derivative)
        return [array.detach().numpy() for array in found]
    values, returns, old = map(jnp.asarray, (values, returns, old))
    loss, targets = jax_loss.value_loss(config), jax_loss.Targets(returns, None, old)
    terms, slopes = loss.of(values, targets)
    derivative = jax.grad(lambda v: loss.of(v, targets)[0].sum())(values)
    found = (terms, slopes, loss.curvature(values, targets), derivative)
    return [np.asarray(array) for array in found]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES)
def test_slopes_and_curvatures_are_the_losss_derivatives(backend, options):
    rng = np.random.default_rng(0)
    values, returns = rng.standard_normal((2, 400, 1))
    old = values + 0.5 * rng.standard_normal((400, 1))
    terms, slopes, curvature, derivative = per_sample(
        backend, values, returns, old, options
    )
    np.testing.assert_allclose(2.0 * slopes, derivative, rtol=1e-12, atol=1e-12)
    h = 1e-6
    up, down = (per_sample(backend, values + s, returns, old, options) for s in (h, -h))
    # Not where one of the two is beyond a kink.
    smooth = (up[2] == down[2])[:, 0]
    assert smooth.mean() > 0.99
    for got, ahead, behind in (
        (slopes, up[0] / 2.0, down[0] / 2.0), (curvature, up[1], down[1])
    ):  # fmt: skip
        want = (ahead - behind) / (2.0 * h)
        np.testing.assert_allclose(got[smooth], want[smooth], atol=1e-7)
    # All that the options distinguish occurs.
    assert ((curvature == 0).sum() > 20) == bool(options)
    assert terms.min() >= 0.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_bounds_that_nothing_reaches_change_nothing(backend):
    obs, returns, weights = problem()
    none, far = (
        fit(backend, obs, returns, weights, value_epochs=3, value_lr=0.1, **options)[2]
        for options in (
            {}, {"value_loss": "huber", "huber_delta": 1e30, "value_clip": 1e30}
        )
    )  # fmt: skip
    np.testing.assert_allclose(far, none, rtol=1e-13)


def test_minibatches_of_a_bounded_loss_are_fitted_alike():
    obs, returns, _ = problem()
    rng = np.random.default_rng(1)
    weights = {
        f"value.layers.{i}.{name}": rng.standard_normal(shape)
        for i, out, into in ((0, 6, OBS_DIM), (1, 1, 6))
        for name, shape in (("weight", (out, into)), ("bias", out))
    }
    options = {"value_loss": "huber", "value_clip": 0.1, "value_lr": 0.03}
    results = [
        fit(
            backend, obs, returns, weights, (6,), value_epochs=5,
            value_minibatch_size=8, **options,
        )
        for backend in BACKENDS
    ]  # fmt: skip
    np.testing.assert_allclose(results[0][2], results[1][2], rtol=1e-9)
    before, after, _ = results[0]
    held = abs(after - before) > 0.1
    assert 0.2 < held.mean() < 1.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_is_the_whole_batch(backend):
    obs, returns, weights = problem()
    one, other = (
        fit(backend, obs, returns, weights, value_minibatch_size=size, value_epochs=3)
        for size in (0, 10**6)
    )
    np.testing.assert_array_equal(one[2], other[2])
