"""The third implementation, continued: every stage of an update, with its decisions.

`run` computes what each backend's bridge computes, under the same names. Given `noise`
it also perturbs each stage's own results, and takes the decisions it is given: a
simulated rounding error must not send it down another branch.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from parity_tests.common.canonical import Arrays, round32
from parity_tests.reference import networks as reference
from parity_tests.reference.distributions import Likelihood, distribution_of_problem
from parity_tests.reference.networks import Forward, Network, Noise, exact
from parity_tests.reference.problem import Problem
from parity_tests.reference.step_options import (
    CGRun,
    conjugate_gradient,
    entropy_bonus,
    sampled,
)


VARIANCE_EPSILON = 1e-8
OBSERVATION_CLIP = 10.0


class Stages(NamedTuple):
    """Results of one implementation on one problem.

    Attributes:
        values: canonical name of a quantity -> array.
        decisions: name of a discrete decision -> integer.
        traces: numbers that the decisions compare with their thresholds.
        scales: norm of the terms that cancel in a quantity, where that exceeds its own.
    """

    values: Arrays
    decisions: dict[str, int]
    traces: Arrays
    scales: dict[str, float]


class Teacher(NamedTuple):
    """The reference's intermediate results, from which all implementations start.

    Attributes:
        output: [N, out] output of the policy.
        log_std: its clamped log_std; None for a policy without a free one.
        new_output: output of the nearby policy.
        new_log_std: its clamped log_std, likewise.
        b: [p] unit-norm gradient.
        full_step: [p] longest candidate of the line search; None where there is none.
    """

    output: np.ndarray
    log_std: np.ndarray | None
    new_output: np.ndarray
    new_log_std: np.ndarray | None
    b: np.ndarray
    full_step: np.ndarray


class Fed(NamedTuple):
    """What the solvers' stages are fed, in a backend's own arrays and order: [p] each.

    Attributes:
        probe: vector of the Fisher products.
        b: right-hand side of conjugate gradient.
        full_step: longest candidate of the line search.
    """

    probe: Any
    b: Any
    full_step: Any


def teach(problem: Problem) -> Teacher:
    """The reference's intermediate results for a problem, exact in float32."""
    policy, batch = problem.policy(), problem.batch
    at = reference.forward(policy, batch["obs"])
    new = reference.forward(problem.policy(problem.nearby), batch["obs"])
    _, b = unit_gradient(problem, policy, at, exact)
    full_step = np.zeros_like(b)
    if problem.case.updates:
        product = _product(problem, policy, at, exact)
        cg = conjugate_gradient(product, b, problem.config)
        full_step = scaled_step(cg, b, problem.config, exact)
    teacher = Teacher(*at[:2], *new[:2], b, full_step)
    return Teacher(*(None if a is None else round32(a) for a in teacher))


def scaled_step(cg: CGRun, b: np.ndarray, config, noise: Noise) -> np.ndarray:
    """The CG solution scaled onto the trust region's border; 0 for no gradient."""
    x_a_x = noise(cg.x @ (b - cg.residual))
    if not x_a_x > 0:
        return np.zeros_like(b)
    return noise(cg.x * math.sqrt(2.0 * config.target_kl / x_a_x))


class Terms(NamedTuple):
    """Likelihood of the actions at a policy's outputs, log-ratio and ratio [N, 1]."""

    likelihood: Likelihood
    log_ratio: np.ndarray
    ratio: np.ndarray


def surrogate_terms(problem: Problem, at: Forward, noise: Noise) -> Terms:
    """Terms of the surrogate at a policy's outputs."""
    batch = problem.batch
    likelihood = distribution_of_problem(problem).likelihood(
        at, batch["actions"], noise
    )
    log_ratio = likelihood.log_prob - batch["log_probs"]
    with np.errstate(over="ignore"):
        return Terms(likelihood, log_ratio, noise(np.exp(log_ratio)))


def surrogate_gradient(
    problem: Problem, policy: Network, at: Forward, noise: Noise
) -> np.ndarray:
    """Gradient of mean(ratio * advantage) in the flat parameters."""
    terms = surrogate_terms(problem, at, noise)
    weight = noise(terms.ratio * problem.batch["advantages"]) / len(terms.ratio)
    distribution = distribution_of_problem(problem)
    cotangents = distribution.pull(at, terms.likelihood.residual, weight, noise)
    if coefficient := problem.config.entropy_coefficient:
        bonus = distribution.entropy_pull(at, noise)
        cotangents = [
            None if of_likelihood is None else of_likelihood + coefficient * of_entropy
            for of_likelihood, of_entropy in zip(cotangents, bonus, strict=True)
        ]
    return reference.backward(policy, at, *cotangents, noise)


def unit_gradient(
    problem: Problem, policy: Network, at: Forward, noise: Noise
) -> tuple[float, np.ndarray]:
    """The gradient's norm, and the gradient over it."""
    gradient = surrogate_gradient(problem, policy, at, noise)
    norm = float(np.linalg.norm(gradient))
    return norm, gradient / norm if norm > 0 else gradient


def _product(problem: Problem, policy: Network, at: Forward, noise: Noise):
    """v -> (F + damping) v by J'MJ."""
    damping = problem.config.cg_damping
    at, few = sampled(problem, policy, at, noise)
    distribution = distribution_of_problem(few)

    def product(v: np.ndarray) -> np.ndarray:
        change = Network.from_flat(v, policy)
        tangent = reference.tangent(policy, at, change, noise)
        cotangents = distribution.metric(at, *tangent, noise)
        f_v = reference.backward(policy, at, *cotangents, noise)
        return noise(f_v + damping * v)

    return product


class Search(NamedTuple):
    """Line search: accepted index (-1 for none), parameters, and all candidates."""

    index: int
    theta: np.ndarray
    improvements: np.ndarray
    kls: np.ndarray
    terms: np.ndarray


def line_search(
    problem: Problem,
    policy: Network,
    at: Forward,
    ratio: np.ndarray,
    full_step: np.ndarray,
    noise: Noise = exact,
    index: int | None = None,
) -> Search:
    """Every candidate evaluated; the first good one, or number `index`, accepted."""
    config, batch = problem.config, problem.batch
    theta = policy.flat()
    distribution = distribution_of_problem(problem)
    residual = distribution.likelihood(at, batch["actions"]).residual
    improvements, kls, terms, candidates = [], [], [], []
    for j in range(config.backtrack_iters):
        candidate = noise(theta + config.backtrack_coeff**j * full_step)
        new = reference.forward(
            Network.from_flat(candidate, policy), batch["obs"], noise
        )
        change = distribution.compare(at, new, residual, batch["actions"])
        with np.errstate(over="ignore"):
            gain = np.expm1(noise(change.log_ratio))
            gain = ratio * gain * batch["advantages"]
        bonus = entropy_bonus(problem, new, noise) - entropy_bonus(problem, at, noise)
        improvements.append(noise(reference.mean_rows(gain, noise)) + bonus)
        terms.append(abs(gain).mean())
        kls.append(reference.mean_rows(noise(change.kl), noise))
        candidates.append(candidate)
    improvements, kls = np.array(improvements), np.array(kls)
    if index is None:
        good = (improvements > 0) & (kls <= config.target_kl)
        good &= np.isfinite(improvements)
        if config.line_search == "none":
            good = np.isfinite(improvements) & np.isfinite(kls)
        index = int(np.argmax(good)) if good.any() and full_step.any() else -1
    theta = candidates[index] if index >= 0 else theta
    return Search(index, theta, improvements, kls, np.array(terms))
