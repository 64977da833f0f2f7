"""Line searches, and the full step without one, on problems with known answers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from parity_tests.oracles.base import to_backend, to_numpy
from trpo_jax.solvers import line_search as jax_line_search
from trpo_torch.solvers import line_search as torch_line_search


def check_line_search(framework: str) -> None:
    """The accepted candidate, where a parabola's KL says which one it has to be.

    It is the first that is allowed, not the best: the shorter, the better here.
    """
    module = torch_line_search if framework == "torch" else jax_line_search
    _check_search(framework, module.line_search)
    _check_full_step(framework, module.take_full_step)


def _check_search(framework: str, search: Callable[..., Any]) -> None:
    theta, step = np.array([1.0, -2.0]), np.array([3.0, 4.0])
    coefficient, count = 0.5, 4
    ends = {"backtrack_coeff": coefficient, "backtrack_iters": count}
    start, full_step = to_backend(framework, theta), to_backend(framework, step)

    def evaluate(candidate: Any) -> tuple[Any, Any]:
        moved = candidate - start
        square = (moved * moved).sum()
        return 1.0 / square, square

    def worse(candidate: Any) -> tuple[Any, Any]:
        improvement, kl = evaluate(candidate)
        return -improvement, 0.0 * kl

    for index in (0, 1, count - 1, None):
        last = count if index is None else index
        target = 25.0 * coefficient ** (2 * last) * 1.01
        result = search(evaluate, start, full_step, target_kl=target, **ends)
        frac = 0.0 if index is None else coefficient**index
        assert bool(result.accepted) == (index is not None)
        assert float(result.frac) == frac
        assert int(result.num_candidates) == (count if index is None else index + 1)
        assert np.array_equal(to_numpy(result.theta), theta + frac * step)
    result = search(worse, start, full_step, target_kl=1.0, **ends)
    assert not bool(result.accepted)
    assert np.array_equal(to_numpy(result.theta), theta)


def _check_full_step(framework: str, take: Callable[..., Any]) -> None:
    """The whole step, worse and out of the region though it be, unless not finite."""
    theta, step = np.array([1.0, -2.0]), np.array([3.0, 4.0])
    start, full_step = to_backend(framework, theta), to_backend(framework, step)
    settings = {"target_kl": 1.0, "backtrack_coeff": 0.5, "backtrack_iters": 4}
    for improvement, kl in ((-7.0, 25.0), (-7.0, np.inf), (np.nan, 25.0)):
        factors = to_backend(framework, np.array([improvement, kl]))
        result = take(lambda _, f=factors: (f[0], f[1]), start, full_step, **settings)
        finite = bool(np.isfinite([improvement, kl]).all())
        assert bool(result.accepted) == finite
        assert (float(result.frac), int(result.num_candidates)) == (float(finite), 1)
        assert np.array_equal(to_numpy(result.theta), theta + finite * step)
        reported = (float(result.improvement), float(result.kl))
        assert reported == ((improvement, kl) if finite else (0.0, 0.0))


CHECKS: dict[str, Callable[[str], None]] = {"line search": check_line_search}
