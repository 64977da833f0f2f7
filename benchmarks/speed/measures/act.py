"""Measures the latency of one `act`: NumPy observations in, NumPy actions out."""

# The peers are an optional extra.
# pyright: reportMissingImports=false

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.cell import Cell
from benchmarks.speed.problems import make_problem
from benchmarks.speed.subjects import AgentSubject


WARM_UP = 300
MOST_CALLS = 5_000


def measure_act(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds per call for `cell.num_envs` observations at once, raw percentiles.

    Returns:
        `seconds`: the median of this process; `seconds_99`: the 99th percentile.
    """
    assert cell.size is not None
    generator = np.random.default_rng(0)
    shape = (cell.num_envs, cell.size.obs_dim)
    obs = generator.standard_normal(shape).astype(np.float32)
    if cell.subject == "sb3-contrib":
        act = _stable_baselines(cell)
    else:
        act = AgentSubject(cell, make_problem(cell.size)).agent.act
    for _ in range(WARM_UP):
        act(obs)
    times, end = [], time.perf_counter() + settings["seconds"]
    while len(times) < MOST_CALLS and time.perf_counter() < end:
        start = time.perf_counter()
        act(obs)
        times.append(time.perf_counter() - start)
    median, slow = np.percentile(times, [50, 99])
    return {"seconds": float(median), "seconds_99": float(slow), "calls": len(times)}


def _stable_baselines(cell: Cell) -> Callable[[np.ndarray], Any]:
    """What its `collect_rollouts` does to act: to a tensor, the policy, to NumPy."""
    import torch
    from stable_baselines3.common.utils import obs_as_tensor

    from benchmarks.speed.peers import StableBaselines

    assert cell.size is not None
    model = StableBaselines(cell, make_problem(cell.size), 1).model

    def act(obs: np.ndarray) -> Any:
        with torch.no_grad():
            actions, values, log_probs = model.policy(obs_as_tensor(obs, model.device))
        return actions.cpu().numpy(), values, log_probs

    return act
