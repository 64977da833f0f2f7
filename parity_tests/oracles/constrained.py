"""Constrained updates: every ring, and properties that any such step must have."""

import functools
from collections.abc import Callable

import numpy as np

from parity_tests import bridges
from parity_tests.bridges import constrained as subjects
from parity_tests.common.canonical import flatten
from parity_tests.oracles import constrained_dual as dual_oracles
from parity_tests.problems import constrained as problems
from parity_tests.reference import constrained as reference_constrained
from parity_tests.reference.problem import ConstrainedProblem
from parity_tests.reference.update import Stages
from parity_tests.rings import rings
from parity_tests.rings.evidence import Evidence, collect
from trpo.agent.constrained import without_prefix
from trpo.data.report import COST_METRICS, StepKind


SEEDS = 3
DISCRETE = ("cost/step_kind", "cost/cg_iterations")


def run(framework: str, problem: ConstrainedProblem, dtype: str) -> Stages:
    """The agent's own update, end to end."""
    agent = subjects.agent(framework, problem, dtype)
    metrics: dict[str, float] = {}
    original_update = agent.update

    def update(_: dict) -> dict[str, float]:
        metrics.update(original_update(subjects.batch(problem, dtype)))
        return metrics

    agent.update = update
    stages = bridges.run_update(agent, problem.base)
    state = without_prefix(agent.get_state())
    stages.values["update/cost_critic"] = flatten(state, "value.")
    for slot in ("first_moment", "second_moment"):
        moments = flatten(state, f"value_optimizer.{slot}.")
        stages.values[f"update/cost_optimizer/{slot}"] = moments
    for name in COST_METRICS:
        if name not in DISCRETE:
            number = np.asarray(metrics[name], dtype=dtype)
            stages.values[f"metric/{name}"] = number
    kind, iterations = (int(metrics[name]) for name in DISCRETE)
    stages.decisions["update/kind"] = kind
    stages.decisions["update/cost_cg_iterations"] = iterations
    return stages


@functools.lru_cache(maxsize=64)
def gather(name: str, seed: int) -> Evidence:
    """Both backends' and the third implementation's results."""
    problem = problems.build(name, seed)
    results = {
        (framework, dtype): run(framework, problem, dtype)
        for framework in bridges.FRAMEWORKS
        for dtype in ("float64", "float32")
    }
    rerun = functools.partial(reference_constrained.run, problem)
    return collect(f"constrained {name}", seed, rerun, results, problem.base.config)


def all_evidence() -> list[Evidence]:
    """Evidence of every problem and seed, seeds next to each other."""
    return [gather(name, seed) for name in problems.EXCESSES for seed in range(SEEDS)]


def check_identity() -> None:
    """Ring A: both backends and the third implementation, in float64."""
    rows = [row for item in all_evidence() for row in rings.identity(item)]
    assert len(rows) > 12 * 3 * 25
    _require(rows)


def check_float32() -> None:
    """Rings B and C: float32's errors are those that rounding predicts, in both."""
    rows = [*rings.precision(all_evidence()), *rings.fairness(all_evidence())]
    assert len(rows) > 200
    _require(rows)


def check_decisions() -> None:
    """Ring D: kinds of step, products, candidates; each kind is taken."""
    gathered = all_evidence()
    _require([row for item in gathered for row in rings.decisions(item)])
    kinds = [item.reference.decisions["update/kind"] for item in gathered]
    assert {*kinds} == {*map(int, StepKind)}
    assert sum(item.reference.decisions["update/accepted"] for item in gathered) >= 10


def _require(rows: list[rings.Row]) -> None:
    bad = [row for row in rows if not row.ok]
    assert not bad, f"{len(bad)} of {len(rows)} rows, first {bad[0]}"


def check_steps(framework: str) -> None:
    """Check a step: the limit kept, a falling cost, the trust region kept."""
    for name in problems.EXCESSES:
        for seed in range(SEEDS):
            problem = problems.build(name, seed)
            agent = subjects.agent(framework, problem, "float64")
            metrics = agent.update(subjects.batch(problem, "float64"))
            excess = float(problem.costs["cost_excess"])
            change = metrics["cost/surrogate_change"]
            assert excess + change <= max(excess, 0.0)
            assert metrics["policy/kl"] <= problem.base.config.target_kl
            if metrics["policy/line_search_accepted"]:
                falls = excess > 0 and metrics["cost/step_kind"] != StepKind.FREE
                assert change < 0 if falls else metrics["policy/improvement"] > 0


CHECKS: dict[str, Callable[[str], None]] = {
    **dual_oracles.CHECKS,
    "constrained steps": check_steps,
}
SHARED: dict[str, Callable[[], None]] = {
    "constrained updates, ring A": check_identity,
    "constrained updates, rings B and C": check_float32,
    "constrained updates, ring D": check_decisions,
}
