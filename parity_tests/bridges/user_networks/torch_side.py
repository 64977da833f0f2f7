"""An update of PyTorch's agent with the user's network in it."""

import functools
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity_kit import references
from parity_kit.torch_side import Side
from parity_tests.bridges.torch_side import of_distributions, of_solvers
from parity_tests.bridges.user_networks.pair import METRICS, agent_options
from parity_tests.reference.update import Fed
from trpo.data.batch import Batch
from trpo.data.report import METRIC_NAMES, UpdateReport
from trpo_torch import TRPOAgent
from trpo_torch.agent.state import flat_params
from trpo_torch.agent.update import policy_function


@functools.lru_cache
def _agent(settings: str, dtype: str, device: str) -> tuple[TRPOAgent, dict]:
    """An agent, and its state before its first update."""
    found = json.loads(settings)
    subject = references.resolve(found["torch"])
    network = Side(subject, None, None, "float32", "cpu").example()
    agent = TRPOAgent(
        **agent_options(found), device=device, dtype=dtype, policy_network=network
    )
    return agent, agent.get_state()


def update(
    settings: dict[str, Any],
    weights: dict[str, Tensor],
    obs: Tensor,
    actions: Tensor,
    advantages: Tensor,
    returns: Tensor,
    staleness: Tensor,
    *fed: Tensor,
) -> dict[str, Any]:
    """The grid's stages, and a whole update."""
    dtype = str(obs.dtype).removeprefix("torch.")
    agent, start = _agent(json.dumps(settings), dtype, obs.device.type)
    agent.set_state(start)
    with torch.no_grad():
        for name, parameter in agent.policy.named_parameters():
            parameter.copy_(weights[name])
    theta = flat_params(agent.policy)
    policy = policy_function(agent.policy, obs)
    with torch.no_grad():
        old: Any = policy(theta)
        new = policy(theta + fed[2])
        log_probs = old.log_prob(actions) + staleness
    batch = Batch(obs, actions, log_probs, returns, advantages)
    solved, decisions = of_solvers(policy, theta, batch, Fed(*fed), agent.config)
    values = {**old._asdict(), **of_distributions(old, new, batch), **solved}
    return {**values, **decisions, **_whole(agent, batch)}


def _whole(agent: TRPOAgent, batch: Batch) -> dict[str, Any]:
    """What the agent's own update leaves behind."""
    fields = {n: x for n, x in batch._asdict().items() if x is not None}
    metrics = agent.update(fields)
    report = UpdateReport(*(metrics[name] for name in METRIC_NAMES))
    values = {f"update/{name}": np.float64(getattr(report, name)) for name in METRICS}
    with torch.no_grad():
        values["update/values"] = agent.critic(batch.obs)
    return {
        **values,
        "update/policy": flat_params(agent.policy),
        "update/cg_iterations": int(report.cg_iterations),
        "update/status": int(report.status),
        "update/step_in_thousandths": round(1000 * report.line_search_frac),
    }
