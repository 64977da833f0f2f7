"""The third implementation's options of the policy step, in NumPy."""

import math
from typing import Any, NamedTuple

import numpy as np

from parity_tests.reference import networks as reference
from parity_tests.reference.distributions import distribution_of_problem
from parity_tests.reference.networks import Forward, Network, Noise, exact
from trpo.config.run import TRPOConfig


def sampled(problem: Any, policy: Network, at: Forward, noise: Noise) -> tuple:
    """Outputs at the samples that Fisher products are over, and their problem."""
    every = problem.config.fisher_every
    if every == 1:
        return at, problem
    kept = {name: array[::every] for name, array in problem.batch.items()}
    few = problem._replace(batch=kept)
    return reference.forward(policy, kept["obs"], noise), few


class CGRun(NamedTuple):
    """Solution, residual [p], and squared residual after 0, 1, … products."""

    x: np.ndarray
    residual: np.ndarray
    trace: np.ndarray
    count: int


def conjugate_gradient(
    product: Any,
    b: np.ndarray,
    config: TRPOConfig,
    count: int | None = None,
    noise: Noise = exact,
) -> CGRun:
    """Conjugate gradient; `count` products if that is given.

    Residuals are orthogonal in exact arithmetic; they are kept so by Gram-Schmidt.
    """
    x, r, trace = np.zeros_like(b), noise(b), [b @ b]
    p, basis = r.copy(), []
    while len(trace) <= (config.cg_iters if count is None else count):
        if count is None and trace[-1] <= config.cg_residual_tol:
            break
        a_p = product(p)
        alpha = noise((r @ r) / (p @ a_p))
        basis.append(r / math.sqrt(r @ r))
        before = r @ r
        x, r = noise(x + alpha * p), noise(r - alpha * a_p)
        q = np.stack(basis)
        r = noise(r - (q @ r) @ q)
        p = noise(r + (r @ r) / before * p)
        trace.append(noise(r @ r))
    return CGRun(x, r, np.array(trace), len(trace) - 1)


def entropy_bonus(problem: Any, at: Forward, noise: Noise) -> float:
    """Coefficient times mean entropy."""
    if not problem.config.entropy_coefficient:
        return 0.0
    entropy = noise(distribution_of_problem(problem).entropy(at, noise).mean())
    return problem.config.entropy_coefficient * float(entropy)
