"""What all implementations make of one problem: gathered once, judged by every ring."""

from typing import NamedTuple

import numpy as np

from parity_tests import bridges, cases, reference, truth
from parity_tests.canonical import Arrays
from parity_tests.reference_update import Stages, teach


# Simulated float32 runs per problem.
RUNS = 6
# Small enough for a linear response, large enough to drown float64's own roundoff.
PROBING_UNIT = 2.0**-40

# A decision -> what can't be compared once it was taken otherwise.
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
        truth: the third implementation in float64.
        noisy: the same with simulated float32 rounding, `RUNS` times.
        results: (framework, dtype) -> that backend's results.
    """

    name: str
    seed: int
    truth: Stages
    noisy: tuple[Stages, ...]
    results: dict[tuple[str, str], Stages]

    def spread(self, quantity: str) -> float:
        """Root mean square norm of the simulated float32 error."""
        return _spread([run.values for run in self.noisy], self.truth.values, quantity)

    def trace_spread(self, trace: str) -> np.ndarray:
        """The simulated float32 error of each entry of a trace."""
        exact = self.truth.traces[trace]
        errors = [run.traces[trace] - exact for run in self.noisy]
        return np.sqrt(np.mean(np.square(errors), axis=0))

    def condition(self, quantity: str) -> float:
        """Error norm per unit of relative rounding, in the limit of none."""
        return condition_of(cases.build(self.name, self.seed), self.truth, quantity)

    def comparable(self, quantity: str, *subjects: Stages) -> bool:
        """Whether all subjects took the truth's decisions that `quantity` rests on."""
        for decision, prefixes in CONSEQUENCES.items():
            if quantity.startswith(prefixes):
                want = self.truth.decisions[decision]
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
    """Names of the cases that the tests run: all but the one that takes a minute."""
    return [case.name for case in cases.GRID if case.name != "humanoid_2048"]


def gather_all(names: list[str], seeds: int, device: str = "cpu") -> list[Evidence]:
    """Evidence of each case and each of its seeds."""
    return [
        gather(name, seed, device)
        for name in names
        for seed in seeds_of(cases.BY_NAME[name], seeds)
    ]


def seeds_of(case: cases.Case, count: int) -> range:
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
    exact = truth.run(problem, teacher)
    noisy = tuple(
        truth.run(problem, teacher, reference.rounding_noise(k), exact.decisions)
        for k in range(RUNS)
    )
    results = {
        (framework, dtype): bridges.run(
            framework, problem, teacher, dtype, device, precision
        )
        for framework in ("torch", "jax")
        for dtype in ("float64", "float32")
    }
    return Evidence(name, seed, exact, noisy, results)


def condition_of(problem: cases.Problem, exact: Stages, quantity: str) -> float:
    """Error norm per unit of relative rounding, in the limit of none."""
    key = (problem.case.name, problem.seed, id(problem))
    if key not in _PROBES:
        teacher = teach(problem)
        runs = [
            truth.run(
                problem,
                teacher,
                reference.rounding_noise(100 + k, PROBING_UNIT),
                exact.decisions,
            ).values
            for k in range(RUNS)
        ]
        _PROBES[key] = (problem, runs)  # The problem too, or its id could come again.
    return _spread(_PROBES[key][1], exact.values, quantity) / PROBING_UNIT


_PROBES: dict[tuple, tuple[cases.Problem, list[Arrays]]] = {}
