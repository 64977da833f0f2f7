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
    new_agent = kind(
        obs_dim=case.obs_dim, act_dim=case.head.act_dim, action_low=-1.0,
        action_high=1.0, device="cpu", distribution=case.distribution, seed=base.seed,
        **fields,
    )  # fmt: skip
    state = base.state | with_prefix(problem.critic)
    new_agent.set_state(new_agent.get_state() | bridges.cast(state, dtype))
    return new_agent


def batch(problem: ConstrainedProblem, dtype: str) -> dict[str, np.ndarray]:
    """The batch for `update`."""
    arrays = problem.base.batch | problem.costs
    return {name: array.astype(dtype) for name, array in arrays.items()}
