"""The third implementation's options of the policy step, in NumPy."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from parity_tests.common.canonical import Arrays, flatten, round32
from parity_tests.reference import networks as reference
from parity_tests.reference.distributions import distribution_of_problem
from parity_tests.reference.networks import Forward, Network, Noise, exact
from trpo.config.run import TRPOConfig


SOLUTION, DAMPING = "policy_step.cg_solution.", "policy_step.damping"


def damping_of(problem: Any) -> float:
    """Damping of the Fisher matrix."""
    return float(problem.state.get(DAMPING, problem.config.cg_damping))


def next_damping(problem: Any, agreement: float, status: int) -> float:
    """Levenberg and Marquardt's rule; as it is after a zero gradient."""
    factor = 1.0
    if status != 4:
        factor = 1.5 if agreement < 0.25 else 1.0 / 1.5 if agreement > 0.75 else 1.0
    first = problem.config.cg_damping
    return float(np.clip(damping_of(problem) * factor, first / 1000, first * 1000))


def start_of(problem: Any) -> np.ndarray | None:
    """Start of conjugate gradient; None for 0."""
    if not problem.config.cg_warm_start:
        return None
    return problem.config.cg_warm_start * flatten(problem.state, SOLUTION)


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
    start: np.ndarray | None = None,
) -> CGRun:
    """Conjugate gradient; `count` products where that many are told.

    Residuals are orthogonal in exact arithmetic; they are kept so by Gram-Schmidt.
    """
    x, r, trace = np.zeros_like(b), b.copy(), [b @ b]
    if start is not None:
        residual = noise(b - product(start))
        if start @ (b + residual) > 0:
            x, r = start, residual
        trace.append(r @ r)
    r = noise(r)
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


def memory_near_solution(problem: Any, rng: np.random.Generator) -> Arrays:
    """Memory as an earlier update may have left it: half a solution, and damping."""
    from parity_tests.reference import update as parts

    config, found = problem.config, {}
    if config.adaptive_damping:
        found[DAMPING] = round32(np.array(0.7 * config.cg_damping))
    if config.cg_warm_start:
        policy = problem.policy()
        at = reference.forward(policy, problem.batch["obs"])
        few = {"cg_warm_start": 0.0, "adaptive_damping": False}
        cold = problem._replace(config=dataclasses.replace(config, **few))
        b = parts.unit_gradient(cold, policy, at, exact)[1]
        product = parts._product(cold, policy, at, exact)
        x = conjugate_gradient(product, b, config, count=4).x
        x = round32(x * (1.0 + 0.5 * rng.standard_normal(x.shape)))
        for name, array in Network.from_flat(x, policy).arrays.items():
            found[f"{SOLUTION}{name}"] = array
    return found
