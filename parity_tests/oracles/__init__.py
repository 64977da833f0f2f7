"""Each backend against an independent computation of the right answer.

Each check takes the backend's name and raises AssertionError; tests, certificate and
mutation run share them.
"""

from collections.abc import Callable

import jax
import numpy as np

from parity_tests import bridges
from parity_tests.bridges.probe import Probe
from parity_tests.common.tolerances import assert_parity
from parity_tests.oracles import (
    discrete as discrete_oracles,
    gaussians as gaussian_oracles,
    line_search as search_oracles,
    networks as network_oracles,
)
from parity_tests.oracles.base import (
    DIFFERENCE,
    check_dense_fisher_of,
    check_surrogate_gradient_of,
    probe_of,
    to_backend,
    to_numpy,
)
from parity_tests.oracles.distributions import (
    check_extremes,
    check_torch_distributions,
)
from parity_tests.problems import cases
from parity_tests.reference import critic as reference_critic, networks as reference
from parity_tests.reference.distributions import distribution_of_problem
from parity_tests.reference.networks import Network
from parity_tests.reference.problem import Problem
from trpo_jax.solvers import conjugate_gradient as jax_cg
from trpo_torch.solvers import conjugate_gradient as torch_cg


# One case of each distribution.
DIFFERENTIATED = ("trained", "choices", "switches")
# Left out of the quick certificate.
ALSO_DIFFERENTIATED = ("mixed",)
# Two whose Jacobian PyTorch has by hand, and one where it is automatic.
DENSE = ("trained", "relu", "textbook")


def check_dense_fisher(framework: str) -> None:
    """Both Fisher routes against J'MJ, J written out column by column."""
    for name in DENSE:
        check_dense_fisher_of(cases.build(name), probe_of(framework, name))


def check_conjugate_gradient(framework: str) -> None:
    """CG against the best point of each Krylov space, by dense solves."""
    solve = (torch_cg if framework == "torch" else jax_cg).conjugate_gradient
    rng = np.random.default_rng(0)
    size = 12
    basis = rng.standard_normal((size, size))
    a = basis @ basis.T + 0.5 * np.eye(size)
    b = rng.standard_normal(size)
    matrix = to_backend(framework, a)
    krylov = [b]
    for _ in range(size - 1):
        krylov.append(a @ krylov[-1] / np.linalg.norm(a @ krylov[-1]))
    for steps in (1, 3, size):
        q = np.linalg.qr(np.stack(krylov[:steps], axis=1))[0]
        best = q @ np.linalg.solve(q.T @ a @ q, q.T @ b)
        if steps == size:
            best = np.linalg.solve(a, b)
        result = solve(lambda v: matrix @ v, to_backend(framework, b), steps, 0.0)
        assert_parity("oracle/cg", to_numpy(result.x), best)
        assert_parity(
            "oracle/cg", to_numpy(result.residual), b - a @ best, np.linalg.norm(b)
        )
        assert int(result.num_steps) == steps
    early = solve(lambda v: matrix @ v, to_backend(framework, b), 50, 1e-6)
    assert 0 < int(early.num_steps) <= size
    assert float(early.residual_sq) <= 1e-6
    bad = solve(lambda v: -(matrix @ v), to_backend(framework, b), 5, 0.0)
    assert float(bad.curvature) < 0.0
    assert not to_numpy(bad.x).any()


def check_library_cg(framework: str) -> None:
    """CG against jax.scipy's after a fixed number of products."""
    solve = (torch_cg if framework == "torch" else jax_cg).conjugate_gradient
    a, b = _positive_definite(20)
    matrix = to_backend(framework, a)
    for steps in (2, 5):
        got = solve(lambda v: matrix @ v, to_backend(framework, b), steps, 0.0).x
        want, _ = jax.scipy.sparse.linalg.cg(
            lambda v: jax.numpy.asarray(a) @ v, jax.numpy.asarray(b), tol=0.0,
            maxiter=steps,
        )  # fmt: skip
        assert_parity("oracle/cg", to_numpy(got), np.array(want))


def _positive_definite(size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    basis = rng.standard_normal((size, size))
    return basis @ basis.T / size + np.eye(size), rng.standard_normal(size)


def check_kl_derivatives(framework: str) -> None:
    """KL's gradient at a nearby policy against central differences."""
    for name in DIFFERENTIATED:
        _check_kl_derivatives(cases.build(name), probe_of(framework, name))


def _check_kl_derivatives(problem: Problem, probe: Probe) -> None:
    policy, obs = problem.policy(), problem.batch["obs"]
    old = reference.forward(policy, obs)
    distribution, actions = distribution_of_problem(problem), problem.batch["actions"]
    likelihood = distribution.likelihood(old, actions)
    rng = np.random.default_rng(2)
    at = policy.flat() + 0.05 * rng.standard_normal(policy.flat().size)
    direction = rng.standard_normal(at.size)
    direction /= np.linalg.norm(direction)

    def mean_kl(theta: np.ndarray) -> float:
        new = reference.forward(Network.from_flat(theta, policy), obs)
        return float(
            distribution.compare(old, new, likelihood.residual, actions).kl.mean()
        )

    slope = mean_kl(at + DIFFERENCE * direction) - mean_kl(at - DIFFERENCE * direction)
    got = probe.kl_gradient(at) @ direction
    assert_parity("oracle/kl_gradient", np.float64(got), slope / (2.0 * DIFFERENCE))


def check_other_gradients(framework: str) -> None:
    """KL's and the surrogate's gradients of the distributions left out above."""
    for name in ALSO_DIFFERENTIATED:
        _check_kl_derivatives(cases.build(name), probe_of(framework, name))
        check_surrogate_gradient_of(cases.build(name), probe_of(framework, name))


def check_surrogate_gradient(framework: str) -> None:
    """The surrogate's gradient against central differences."""
    for name in DIFFERENTIATED:
        check_surrogate_gradient_of(cases.build(name), probe_of(framework, name))


def check_critic_gradient(framework: str) -> None:
    """The critic's gradient against central differences of its loss."""
    problem, teacher = cases.build("trained"), bridges.teacher_of("trained", 0)
    stages, _ = bridges.side(framework).stages(
        problem, teacher, "float64", "cpu", "float32"
    )
    critic = problem.critic()
    flat = critic.flat()
    direction = np.random.default_rng(4).standard_normal(flat.size)

    def loss(theta: np.ndarray) -> float:
        network = Network.from_flat(theta, critic)
        return reference_critic.loss_and_gradient(problem, network, reference.exact)[0]

    rise = loss(flat + DIFFERENCE * direction) - loss(flat - DIFFERENCE * direction)
    got = np.float64(stages["critic/gradient"] @ direction)
    assert_parity("oracle/critic_gradient", got, np.float64(rise / (2.0 * DIFFERENCE)))


CHECKS: dict[str, Callable[[str], None]] = {
    "dense Fisher": check_dense_fisher,
    "dense CG": check_conjugate_gradient,
    "library CG": check_library_cg,
    "KL gradient": check_kl_derivatives,
    "surrogate gradient": check_surrogate_gradient,
    "gradients of other distributions": check_other_gradients,
    "60 digits": check_extremes,
    "torch.distributions": check_torch_distributions,
    "critic gradient": check_critic_gradient,
    **discrete_oracles.CHECKS,
    **gaussian_oracles.CHECKS,
    **network_oracles.CHECKS,
    **search_oracles.CHECKS,
}
