"""Agents of either backend in the state of a constrained problem."""

import dataclasses
import importlib
from typing import Any

import numpy as np

from parity_tests import bridges
from parity_tests.reference.problem import ConstrainedProblem
from trpo.agent.constrained import with_prefix


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
    """The batch for `update`."""
    arrays = problem.base.batch | problem.costs
    return {name: array.astype(dtype) for name, array in arrays.items()}
