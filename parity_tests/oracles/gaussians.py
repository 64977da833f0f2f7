"""Gaussians with a log_std for each row, and squashed ones, against the reference."""

import itertools

import mpmath
import numpy as np
import torch

from parity_tests.common.tolerances import assert_parity
from parity_tests.oracles.base import probe_of, to_backend, to_numpy
from parity_tests.oracles.distributions import NETWORKS
from parity_tests.problems import cases
from parity_tests.reference import networks as reference
from parity_tests.reference.networks import LOG_STD_MAX, LOG_STD_MIN, Network
from trpo.common.gauss_hermite import normal_quadrature
from trpo.spaces.action_heads import (
    SQUASHED_GAUSSIAN,
    SQUASHED_GAUSSIAN_STATE_STD,
    Head,
)


def check_state_fisher(framework: str) -> None:
    """Both Fisher routes against the mean of score score', by exact quadrature."""
    for name in ("state_std", "state_std_high"):
        problem, probe = cases.build(name), probe_of(framework, name)
        policy = problem.policy()
        at = reference.forward(policy, problem.batch["obs"])
        flat = policy.flat()
        jacobian = np.stack(
            [reference.tangent(policy, at, Network.from_flat(e, policy))[0]
             for e in np.eye(flat.size)], axis=2,
        )  # fmt: skip
        fisher = 0.1 * np.eye(flat.size)
        for outputs, slopes in zip(at.output, jacobian, strict=True):
            fisher += slopes.T @ _score_moment(outputs) @ slopes / len(at.output)
        for route in ("gauss_newton", "kl_hessian"):
            for vector in (problem.probe, np.ones(flat.size)):
                got = probe.fisher(vector, route)
                assert_parity("oracle/fisher", got, fisher @ vector)


def _score_moment(outputs: np.ndarray) -> np.ndarray:
    """E[score score'] in the outputs; scores are polynomials of z, so this is exact."""
    nodes, weights = normal_quadrature(4)
    total = np.zeros((outputs.size,) * 2)
    for z, weight in zip(nodes, weights, strict=True):
        at = torch.tensor(outputs, requires_grad=True)
        mean, log_std = at.chunk(2)
        normal = torch.distributions.Normal(
            mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
        )
        actions = (normal.mean + normal.stddev * z).detach()
        (score,) = torch.autograd.grad(normal.log_prob(actions).sum(), at)
        # Dimensions are independent, and scores have mean zero.
        same = np.tile(np.eye(len(mean)), (2, 2))
        total += weight * same * np.outer(score, score)
    return total


def _squashed(framework: str, log_std: np.ndarray, mean: np.ndarray) -> tuple:
    """The distribution made with a free log_std, and made of the outputs alone."""
    module = NETWORKS[framework]
    outputs = np.concatenate([mean, np.broadcast_to(log_std, mean.shape)], 1)
    free, state_std = (
        Head(mean.shape[1], name)
        for name in (SQUASHED_GAUSSIAN, SQUASHED_GAUSSIAN_STATE_STD)
    )
    return (
        module.from_network(
            free, to_backend(framework, mean), to_backend(framework, log_std)
        ),
        module.from_network(state_std, to_backend(framework, outputs), None),
    )


def check_squashed_log_prob(framework: str) -> None:
    """Log-density of tanh(u) against 60 digits, near the bounds too."""
    for dtype, size in itertools.product(
        ("float64", "float32"), (0.0, 1e-4, 0.3, 2.0, 20.0, 80.0)
    ):
        u = np.array([[size, -size]]).astype(dtype)
        mean, log_std = u - np.array([[0.5, -1.0]], dtype), np.zeros(2, dtype)
        want, scale = mpmath.mpf(0), mpmath.mpf(0)
        with mpmath.workdps(60):
            for entry, centre in zip(u[0], mean[0], strict=True):
                x, m = mpmath.mpf(float(entry)), mpmath.mpf(float(centre))
                slope = -2 * mpmath.log(mpmath.cosh(x))
                normal = -((x - m) ** 2) / 2 - mpmath.log(2 * mpmath.pi) / 2
                want += normal - slope
                scale += abs(normal) + 2 * (abs(x) + 1)
        for squashed in _squashed(framework, log_std, mean):
            got = to_numpy(squashed.log_prob(to_backend(framework, u)))[0, 0]
            expected = np.dtype(dtype).type(want)
            assert_parity("oracle/log_prob", got, expected, float(scale))


def check_squashed_entropy(framework: str) -> None:
    """Entropy against the integral of -p log p over the action, in steps."""
    rng = np.random.default_rng(8)
    mean = rng.standard_normal((7, 3))
    log_std = np.log(np.array([0.02, 0.1, 0.25]))
    # The trapezoidal rule converges geometrically on a smooth bump.
    z = np.linspace(-12.0, 12.0, 4001)
    for squashed in _squashed(framework, log_std, mean):
        want = np.zeros((7, 1))
        for j, std in enumerate(np.exp(log_std)):
            u = torch.tensor(mean[:, j : j + 1] + std * z)
            base = torch.distributions.Normal(torch.tensor(mean[:, j : j + 1]), std)
            log_slope = torch.log(torch.cosh(u)) * -2.0
            log_p = base.log_prob(u)
            terms = -(log_p.exp() * (log_p - log_slope)).numpy() * std
            want[:, 0] += terms.sum(1) * (z[1] - z[0])
        assert_parity("oracle/entropy", to_numpy(squashed.entropy()), want)


CHECKS = {
    "Fisher with own log_std": check_state_fisher,
    "60 digits, squashed": check_squashed_log_prob,
    "entropy, squashed": check_squashed_entropy,
}
