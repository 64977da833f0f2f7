"""Problems of constrained updates: a case of the grid, costs, and how far the limit is.

Four excesses over the limit, so that every kind of step is taken.
"""

import dataclasses
import functools
import importlib
from typing import Any, NamedTuple

import numpy as np

from parity_tests import bridges
from parity_tests.common.canonical import Arrays, round32
from parity_tests.problems.cases import Problem, build as build_problem
from parity_tests.reference import networks as reference
from trpo.agent.constrained import with_prefix


CASE = "trained"
# Excess over what the trust region allows the cost to change.
EXCESSES = {"free": -2.0, "near": -0.3, "over": 0.4, "recovery": 1.6}


class ConstrainedProblem(NamedTuple):
    """A problem with costs; every number is exact in float32.

    Attributes:
        base: the problem without costs.
        costs: `cost_advantages`, `cost_returns` [N, 1] and `cost_excess` [].
        critic: canonical weights and optimiser of the cost critic, as a critic's.
    """

    base: Problem
    costs: Arrays
    critic: Arrays

    @property
    def of_costs(self) -> Problem:
        """The same samples with the costs in place of rewards and their critic."""
        batch = self.base.batch | {
            "advantages": self.costs["cost_advantages"],
            "returns": self.costs["cost_returns"],
        }
        return self.base._replace(batch=batch, state=self.base.state | self.critic)


@functools.lru_cache(maxsize=64)
def build(name: str, seed: int = 0) -> ConstrainedProblem:
    """The problem of a name in `EXCESSES` and a seed, always the same one."""
    from parity_tests.reference import constrained as reference_constrained

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


def agent(framework: str, problem: ConstrainedProblem, dtype: str) -> Any:
    """A constrained agent in the problem's state."""
    base = problem.base
    case = base.case
    fields = dataclasses.asdict(base.config) | {"dtype": dtype, "cost_limit": 0.0}
    del fields["policy_distribution"]
    for name in ("policy_layer_sizes", "critic_layer_sizes"):
        fields[name] = case.layers
    kind = importlib.import_module(f"trpo_{framework}").ConstrainedTRPOAgent
    sizes = (case.obs_dim, case.head.act_dim, -1.0, 1.0, "cpu")
    made = kind(*sizes, distribution=case.distribution, seed=base.seed, **fields)
    own = base.state | with_prefix(problem.critic)
    made.set_state(made.get_state() | bridges.cast(own, dtype))
    return made


def batch(problem: ConstrainedProblem, dtype: str) -> dict[str, np.ndarray]:
    """What `update` is given."""
    arrays = problem.base.batch | problem.costs
    return {name: array.astype(dtype) for name, array in arrays.items()}


def forward(problem: ConstrainedProblem, theta: np.ndarray) -> reference.Forward:
    """The policy at flat parameters."""
    policy = reference.Network.from_flat(theta, problem.base.policy())
    return reference.forward(policy, problem.base.batch["obs"])
