"""Problems of constrained updates: a case of the grid, with costs and a limit on them.

Four excesses over the limit, so that every kind of step is taken.
"""

import functools

import numpy as np

from parity_tests.common.canonical import round32
from parity_tests.problems.cases import build as build_problem
from parity_tests.reference import constrained as reference_constrained
from parity_tests.reference.problem import ConstrainedProblem


CASE = "trained"
# Excess over what the trust region allows the cost to change.
EXCESSES = {"free": -2.0, "near": -0.3, "over": 0.4, "recovery": 1.6}


@functools.lru_cache(maxsize=64)
def build(name: str, seed: int = 0) -> ConstrainedProblem:
    """The problem of a name in `EXCESSES` and a seed, always the same one."""
    base, other = build_problem(CASE, seed), build_problem(CASE, seed + 50)
    rng = np.random.default_rng([seed, 77])
    # Mostly what the reward is for, so that reward and cost conflict.
    noise = rng.standard_normal(base.batch["advantages"].shape)
    advantages = round32(0.7 * base.batch["advantages"] + 0.5 * noise)
    costs = {
        "cost_advantages": advantages,
        "cost_returns": round32(2.0 + rng.standard_normal(advantages.shape)),
    }
    critic = {n: a for n, a in other.state.items() if n.startswith("value")}
    problem = ConstrainedProblem(base, costs, critic)
    reach = reference_constrained.reach(problem)
    costs["cost_excess"] = round32(np.array(EXCESSES[name] * reach))
    return problem
