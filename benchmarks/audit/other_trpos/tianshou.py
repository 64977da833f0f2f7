"""One update of Tianshou's TRPO, its own `_update_with_batch`, on a given batch."""

# pyright: reportMissingImports=false

from typing import Any

import gymnasium
import numpy as np
import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.modelfree.trpo import TRPO
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch

from benchmarks.audit.other_trpos.record import (
    Arrays,
    Order,
    flat,
    load,
    main,
    network,
    parameters_in_our_order,
    sizes,
)


class Actor(torch.nn.Module):
    """Mean by a network, standard deviations free, as Tianshou's examples have them."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.mean = network(widths)
        self.log_std = torch.nn.Parameter(torch.zeros(widths[-1]))

    def forward(self, obs: torch.Tensor, **_: Any) -> tuple:
        """((mean, standard deviation), no state)."""
        mean = self.mean(obs)
        return (mean, self.log_std.exp().expand_as(mean)), None


def distribution(of: tuple) -> torch.distributions.Distribution:
    """Independent normals."""
    return torch.distributions.Independent(torch.distributions.Normal(*of), 1)


def update(arrays: Arrays) -> Arrays:
    """Everything that the update computes, in our order of parameters."""
    widths = sizes(arrays, "policy.")
    actor, critic = Actor(widths), network(sizes(arrays, "value."))
    ours = parameters_in_our_order(actor.mean, actor.log_std)
    values = parameters_in_our_order(critic)
    load(ours, arrays, "policy.")
    load(values, arrays, "value.")
    space = gymnasium.spaces.Box(-1.0, 1.0, (widths[-1],))
    agent = TRPO(
        policy=ProbabilisticActorPolicy(
            actor=actor, dist_fn=distribution, action_space=space, action_scaling=False
        ),
        critic=critic,
        optim=AdamOptimizerFactory(lr=1e-3),
        optim_critic_iters=1,
        max_kl=float(arrays["target_kl"]),
    )
    seen: Arrays = {}
    order = Order(ours, list(actor.parameters()))
    solve = agent._conjugate_gradients

    def solver(b: torch.Tensor, kl_gradient: torch.Tensor, **options: int) -> Any:
        # The gradient is of the loss: of the surrogate with its sign turned.
        seen["gradient"] = -order.to_ours(b)
        probe = order.to_theirs(arrays["probe"])
        seen["product"] = order.to_ours(agent._MVP(probe, kl_gradient))
        x = solve(b, kl_gradient, **options)
        seen["cg"] = -order.to_ours(x)
        scale = torch.sqrt(2 * agent.max_kl / (x @ agent._MVP(x, kl_gradient)))
        seen["full_step"] = float(scale) * seen["cg"]
        return x

    agent._conjugate_gradients = solver
    batch = Batch(
        info=Batch(),
        obs=torch.as_tensor(arrays["obs"]),
        act=torch.as_tensor(arrays["actions"]),
        logp_old=torch.as_tensor(arrays["log_probs"][:, 0]),
        adv=torch.as_tensor(arrays["advantages"][:, 0]),
        returns=torch.as_tensor(arrays["returns"][:, 0]),
    )
    before = flat(ours)
    report = agent._update_with_batch(batch, None, 1)
    after = flat(ours)
    scale = np.linalg.norm(after - before) / np.linalg.norm(seen["full_step"])
    index = round(np.log(scale) / np.log(agent.backtrack_coeff)) if scale > 0 else -1
    return seen | {
        "policy": after,
        "before": before,
        "index": np.array(index),
        "kl": np.array(report.kl.mean),
        "surrogate": np.array(-report.actor_loss.mean),
        "critic_gradient": flat(values, "gradient"),
    }


if __name__ == "__main__":
    main(update)
