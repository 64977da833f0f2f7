"""The dual's closed form against a solver of the dense problem, and at its borders."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import scipy.optimize
import torch

from parity_tests.common.tolerances import assert_parity
from trpo.data.report import StepKind
from trpo_jax.policy_step import constrained_dual as jax_dual
from trpo_torch.policy_step import constrained_dual as torch_dual


class Dense(NamedTuple):
    """Maximise g'x where c + b'x <= 0 and x'Hx / 2 <= radius."""

    g: np.ndarray
    b: np.ndarray
    h: np.ndarray
    c: float
    radius: float

    @property
    def scalars(self) -> tuple[float, float, float, float]:
        """q, r, s, c."""
        u, v = np.linalg.solve(self.h, np.stack([self.g, self.b], 1)).T
        return self.g @ u, self.g @ v, self.b @ v, self.c

    def step(self, of_gradient: float, of_cost: float) -> np.ndarray:
        """The combination of H^-1 g and H^-1 b."""
        u, v = np.linalg.solve(self.h, np.stack([self.g, self.b], 1)).T
        return of_gradient * u + of_cost * v


def random_problem(seed: int, excess: float, size: int = 4) -> Dense:
    """One from a seed, with c in units of what the region allows b'x to change."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    h = root @ root.T / size + 0.1 * np.eye(size)
    g, b = rng.standard_normal((2, size))
    radius = 10.0 ** rng.uniform(-4, 1)
    s = b @ np.linalg.solve(h, b)
    return Dense(g, b, h, excess * np.sqrt(2.0 * radius * s), radius)


def solve_dense(problem: Dense) -> np.ndarray | None:
    """The best x by sequential quadratic programming; None where there is none.

    In coordinates in which the trust region is the unit ball, each vector scaled to 1.
    """
    root = np.linalg.cholesky(problem.h).T * 1.0 / np.sqrt(2.0 * problem.radius)
    g, b = np.linalg.solve(root.T, np.stack([problem.g, problem.b], 1)).T
    size = np.linalg.norm(b)
    g, b, c = g / np.linalg.norm(g), b / size, problem.c / size
    if c >= 1.0:
        return None
    solution = scipy.optimize.minimize(
        lambda y: -g @ y,
        -b * max(c, 0.0),
        jac=lambda y: -g,
        method="SLSQP",
        constraints=[
            {"type": "ineq", "fun": lambda y: 1.0 - y @ y, "jac": lambda y: -2.0 * y},
            {"type": "ineq", "fun": lambda y: -c - b @ y, "jac": lambda y: -b},
        ],
        options={"ftol": 1e-15, "maxiter": 300},
    )
    return np.linalg.solve(root, solution.x)


def torch_solve(*scalars: float) -> tuple[float, ...]:
    """The dual solved by PyTorch, in float64."""
    *tensors, radius = scalars
    q, r, s, c = (torch.tensor(x, dtype=torch.float64) for x in tensors)
    return tuple(map(float, torch_dual.solve_dual(q, r, s, c, radius)))


@functools.cache
def _jitted() -> Callable:
    return jax.jit(jax_dual.solve_dual)


def jax_solve(*scalars: float) -> tuple[float, ...]:
    """The dual solved by compiled JAX, in float64."""
    return tuple(map(float, _jitted()(*(np.float64(x) for x in scalars))))


SOLVE: dict[str, Callable[..., tuple[float, ...]]] = {
    "torch": torch_solve,
    "jax": jax_solve,
}


def check_step(framework: str, problem: Dense) -> StepKind:
    """The step is the dense solver's, or the steepest descent of the cost."""
    scalars = problem.scalars
    of_gradient, of_cost, kl_multiplier, cost_multiplier, kind = SOLVE[framework](
        *scalars, problem.radius
    )
    x, want = problem.step(of_gradient, of_cost), solve_dense(problem)
    region = 0.5 * x @ problem.h @ x / problem.radius
    assert region <= 1.0 + 1e-9
    if want is None:
        assert kind == StepKind.RECOVERY
        want = problem.step(0.0, -np.sqrt(2.0 * problem.radius / scalars[2]))
        assert_parity("oracle/dual", x, want)
        return StepKind.RECOVERY
    assert kind != StepKind.RECOVERY
    size = np.sqrt(scalars[0] * 2.0 * problem.radius)
    # The solver's own accuracy is in its objective, not in its x.
    assert_parity("oracle/dense_program", problem.g @ x, problem.g @ want, size)
    reach = np.sqrt(scalars[2] * 2.0 * problem.radius)
    assert problem.c + problem.b @ x <= 1e-9 * reach
    # Karush, Kuhn, Tucker: g = lambda H x + nu b, and no multiplier without its limit.
    assert min(kl_multiplier, cost_multiplier) >= 0.0
    gradient = kl_multiplier * problem.h @ x + cost_multiplier * problem.b
    scale = float(abs(problem.g).max() + cost_multiplier * abs(problem.b).max())
    assert_parity("oracle/dual", gradient, problem.g, scale)
    if kind == StepKind.FREE:
        assert cost_multiplier == 0.0
    else:
        assert_parity("oracle/dual", problem.b @ x, np.array(-problem.c), reach)
    return StepKind(int(kind))


def check_kinds(framework: str) -> None:
    """Random problems, from a limit far away to one far beyond reach."""
    seen = [
        check_step(framework, random_problem(seed, excess))
        for seed in range(6)
        for excess in (-3.0, -1.0, -0.5, -0.01, 0.0, 0.3, 0.999, 1.001, 4.0)
    ]
    assert {*seen} == {*StepKind}
    assert min(seen.count(kind) for kind in StepKind) >= 10


def check_borders(framework: str) -> None:
    """No limit, no gradient, no cost gradient, parallel gradients, a region touched."""
    solve, radius = SOLVE[framework], 0.02
    free = np.sqrt(2.0 * radius / 4.0)
    # (q, r, s, c) -> coefficients and kind.
    for scalars, want in (
        ((4.0, 1.0, 1.0, -np.inf), (free, 0.0, StepKind.FREE)),
        ((4.0, 1.0, 0.0, 0.5), (free, 0.0, StepKind.FREE)),
        ((4.0, 2.0, 1.0, -0.2), (free, 0.0, StepKind.FREE)),
        ((4.0, 2.0, 1.0, -0.1), (0.0, 0.1, StepKind.BOUND)),
        ((4.0, 2.0, 1.0, 0.1), (0.0, -0.1, StepKind.BOUND)),
        ((0.0, 0.0, 1.0, 0.1), (0.0, -0.1, StepKind.BOUND)),
        ((4.0, -2.0, 1.0, 0.1), (free, 0.0, StepKind.FREE)),
        ((4.0, 1.0, 1.0, 0.2), (0.0, -0.2, StepKind.RECOVERY)),
        ((0.0, 0.0, 1.0, 0.5), (0.0, -0.2, StepKind.RECOVERY)),
    ):
        *coefficients, _, _, kind = solve(*scalars, radius)
        assert kind == want[2], scalars
        assert_parity("oracle/dual", np.array(coefficients), np.array(want[:2]))
    # A hair on either side of the region's border the step hardly changes.
    steps = [solve(4.0, 1.0, 1.0, c, radius)[:2] for c in (0.2 - 1e-15, 0.2 + 1e-15)]
    assert abs(np.array(steps[0]) - np.array(steps[1])).max() < 1e-7


CHECKS: dict[str, Callable[[str], None]] = {
    "the dual's steps": check_kinds,
    "the dual's borders": check_borders,
}
