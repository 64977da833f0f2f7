"""The third implementation's preconditioners, each as its factor L of M = LL'.

The backends apply M^-1; here conjugate gradient runs on L^-1 A L^-T instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from parity_tests.reference import networks as reference
from parity_tests.reference.distributions import of_problem
from parity_tests.reference.layers import slope
from parity_tests.reference.networks import Forward, Network, Noise


Map = Callable[[np.ndarray], np.ndarray]


class Split(NamedTuple):
    """L v, L^-1 v and L^-T v of vectors [p]."""

    multiply: Map
    solve: Map
    solve_transposed: Map


IDENTITY = Split(*[lambda v: v] * 3)


def split_of(
    problem: Any, policy: Network, at: Forward, damping: float, noise: Noise
) -> Split:
    """The factor that a problem's configuration asks for.

    Args:
        problem: Of the samples that Fisher products are over.
        policy: The policy.
        at: Its outputs there.
        damping: That is added to the Fisher matrix.
        noise: Simulated rounding.
    """
    kind = problem.config.preconditioner
    if kind == "none":
        return IDENTITY
    layers = _scores(problem, policy, at, noise)
    of_log_std = _of_log_std(problem, policy, at)
    if kind == "diagonal":
        return _diagonal(layers, of_log_std, damping, noise)
    return _kronecker(policy, layers, of_log_std, damping, noise)


def _scores(
    problem: Any, policy: Network, at: Forward, noise: Noise
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each layer: its inputs with a 1, and the scores by its sums."""
    distribution, ones = of_problem(problem), np.ones((len(at.output), 1))
    residual = distribution.likelihood(at, problem.batch["actions"], noise).residual
    delta, _ = distribution.pull(at, residual, ones, noise)
    found = []
    for i in range(policy.depth - 1, -1, -1):
        found.insert(0, (np.concatenate([at.inputs[i], ones], 1), delta))
        if i:
            steep = slope(policy.architecture.activation, at.sums[i - 1], at.inputs[i])
            delta = noise((delta @ policy.pair(f"layers.{i}")[0]) * steep)
    return found


def _of_log_std(problem: Any, policy: Network, at: Forward) -> np.ndarray:
    """The diagonal of log_std's block: what the metric makes of ones."""
    if policy.log_std is None:
        return np.zeros(0)
    inside = reference._inside(policy.log_std)
    metric = of_problem(problem).metric(
        at, np.zeros_like(at.output), inside[None] * 1.0
    )
    return (metric[1] * inside)[0]


def _diagonal(layers: list, of_log_std: np.ndarray, damping: float, noise: Noise):
    parts = [of_log_std]
    for a, g in layers:
        squares = (g**2).T @ a**2 / len(a)
        parts += [squares[:, :-1].reshape(-1), squares[:, -1]]
    root = noise((noise(np.concatenate(parts)) + damping) ** 0.375)
    return Split(lambda v: root * v, lambda v: v / root, lambda v: v / root)


def _kronecker(
    policy: Network,
    layers: list,
    of_log_std: np.ndarray,
    damping: float,
    noise: Noise,
) -> Split:
    roots = [_factors(a, g, damping, noise) for a, g in layers]
    scale = np.sqrt(of_log_std + damping)

    def blockwise(v: np.ndarray, function: Callable, of_scale: Callable) -> np.ndarray:
        network = Network.from_flat(v, policy)
        parts = [of_scale(v[: len(scale)])]
        for i, root in enumerate(roots):
            weight, bias = network.pair(f"layers.{i}")
            block = function(np.concatenate([weight, bias[:, None]], 1), *root)
            parts += [block[:, :-1].reshape(-1), block[:, -1]]
        return np.concatenate(parts)

    solve = np.linalg.solve
    return Split(
        lambda v: blockwise(v, lambda x, g, a: g @ x @ a.T, lambda u: u * scale),
        lambda v: blockwise(
            v, lambda x, g, a: solve(a, solve(g, x).T).T, lambda u: u / scale
        ),
        lambda v: blockwise(
            v, lambda x, g, a: solve(a.T, solve(g.T, x).T).T, lambda u: u / scale
        ),
    )


def _factors(a: np.ndarray, g: np.ndarray, damping: float, noise: Noise) -> tuple:
    """Cholesky factors of the scores' and of the inputs' damped second moments."""
    of_scores, of_inputs = (noise(x.T @ x / len(x)) for x in (g, a))
    sizes = [np.trace(factor) / len(factor) for factor in (of_scores, of_inputs)]
    pi = np.sqrt(sizes[1] / sizes[0]) if sizes[0] > 0 else 1.0
    shifts = np.sqrt(damping) / pi, np.sqrt(damping) * pi
    return tuple(
        np.linalg.cholesky(factor + shift * np.eye(len(factor)))
        for factor, shift in zip((of_scores, of_inputs), shifts, strict=True)
    )
