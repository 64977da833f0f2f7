"""The results of all implementations on one problem, from which each ring is judged."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from parity_kit.tolerances import UNIT_ROUNDOFF_32
from parity_tests import bridges
from parity_tests.common.canonical import Arrays
from parity_tests.problems import cases
from parity_tests.reference import all_stages, networks as reference
from parity_tests.reference.networks import Noise
from parity_tests.reference.problem import Case
from parity_tests.reference.update import Stages
from trpo.config.run import TRPOConfig


Rerun = Callable[[Noise, dict[str, int] | None], Stages]


# Simulated float32 runs per problem.
NOISY_RUNS = 6
# Precision of matrix products -> relative size of the simulated rounding. TF32 keeps
# 10 of float32's 23 bits behind the point.
ROUNDING_UNITS = {"float32": UNIT_ROUNDOFF_32, "tf32": 2.0**-11}
# Small enough for a linear response, large enough to drown float64's own roundoff.
PROBING_UNIT = 2.0**-40

# Decision -> quantities that can't be compared once it was taken differently.
CONSEQUENCES = {
    "cg/iterations": ("cg/solution",),
    "line_search/index": ("line_search/",),
    "update/cg_iterations": (
        "update/cg_solution",
        "update/full_step",
        "update/policy",
        "metric/policy/",
        "metric/cg/",
    ),
    "update/index": ("update/policy", "metric/policy/"),
}


class Evidence(NamedTuple):
    """Results on one problem.

    Attributes:
        name: the case.
        seed: the problem's seed.
        reference: the third implementation in float64.
        noisy: `reference` with simulated rounding, `NOISY_RUNS` times.
        results: (framework, dtype) -> that backend's results.
        config: the problem's hyperparameters.
        rerun: the third implementation on this problem: (noise, decisions to take
            instead of its own) -> results.
    """

    name: str
    seed: int
    reference: Stages
    noisy: tuple[Stages, ...]
    results: dict[tuple[str, str], Stages]
    config: TRPOConfig
    rerun: Rerun

    def spread(self, quantity: str) -> float:
        """Root mean square norm of the simulated error."""
        return _spread(
            [run.values for run in self.noisy], self.reference.values, quantity
        )

    def trace_spread(self, trace: str) -> np.ndarray:
        """The simulated error of each entry of a trace."""
        exact = self.reference.traces[trace]
        errors = [run.traces[trace] - exact for run in self.noisy]
        return np.sqrt(np.mean(np.square(errors), axis=0))

    def condition(self, quantity: str) -> float:
        """Error norm per unit of relative rounding, in the limit of none."""
        key = id(self.reference)
        if key not in _PROBES:
            runs = [
                self.rerun(
                    reference.rounding_noise(100 + k, PROBING_UNIT),
                    self.reference.decisions,
                ).values
                for k in range(NOISY_RUNS)
            ]
            _PROBES[key] = (self.reference, runs)  # Kept, or its id could come again.
        return _spread(_PROBES[key][1], self.reference.values, quantity) / PROBING_UNIT

    def comparable(self, quantity: str, *subjects: Stages) -> bool:
        """Whether all took the reference's decisions on which `quantity` depends."""
        for decision, prefixes in CONSEQUENCES.items():
            if quantity.startswith(prefixes):
                want = self.reference.decisions[decision]
                if any(subject.decisions[decision] != want for subject in subjects):
                    return False
        return True


def _spread(runs: list[Arrays], exact: Arrays, quantity: str) -> float:
    errors = [np.linalg.norm(run[quantity] - exact[quantity]) for run in runs]
    return float(np.sqrt(np.mean(np.square(errors))))


def quick_cases() -> list[str]:
    """Names of the cases that the quick certificate runs."""
    return [case.name for case in cases.GRID if case.quick]


def test_cases() -> list[str]:
    """Names of the cases that the tests run: not those that take long to compile."""
    return [case.name for case in cases.GRID if case.tested]


def gather_all(
    names: list[str], seeds: int, device: str = "cpu", precision: str = "float32"
) -> list[Evidence]:
    """Evidence of each case and each of its seeds."""
    return [
        gather(name, seed, device, precision)
        for name in names
        for seed in seeds_of(cases.BY_NAME[name], seeds)
    ]


def seeds_of(case: Case, count: int) -> range:
    """Seeds of a case: large ones average enough by themselves."""
    return range(1 if case.batch * case.obs_dim > 5000 else count)


# Everything gathered in this process; each problem is run once for all rings.
GATHERED: dict[tuple[str, int, str, str], Evidence] = {}


def gather(
    name: str, seed: int = 0, device: str = "cpu", precision: str = "float32"
) -> Evidence:
    """All implementations' results on case `name`, each from the same arrays."""
    key = (name, seed, device, precision)
    if key not in GATHERED:
        GATHERED[key] = _gather(*key)
    return GATHERED[key]


def _gather(name: str, seed: int, device: str, precision: str) -> Evidence:
    problem, teacher = cases.build(name, seed), bridges.teacher_of(name, seed)

    def rerun(noise: Noise, decisions: dict[str, int] | None) -> Stages:
        return all_stages.run(problem, teacher, noise, decisions)

    results = {
        (framework, dtype): bridges.run(
            framework, problem, teacher, dtype, device, precision
        )
        for framework in ("torch", "jax")
        for dtype in ("float64", "float32")
    }
    return collect(
        name, seed, rerun, results, problem.config, ROUNDING_UNITS[precision]
    )


def collect(
    name: str,
    seed: int,
    rerun: Rerun,
    results: dict[tuple[str, str], Stages],
    config: TRPOConfig,
    unit: float = UNIT_ROUNDOFF_32,
) -> Evidence:
    """Add the reference and its noisy runs to the backends' results."""
    exact = rerun(reference.exact, None)
    noisy = tuple(
        rerun(reference.rounding_noise(k, unit), exact.decisions)
        for k in range(NOISY_RUNS)
    )
    return Evidence(name, seed, exact, noisy, results, config, rerun)


_PROBES: dict[int, tuple[Stages, list[Arrays]]] = {}
