"""One update of sb3-contrib's TRPO, its own `train`, on a given batch.

Its observations are cast to float32 by `preprocess_obs`; that is left out, so that what
differs is not rounding.
"""

# Not every environment has it, and this file has its name.
# pyright: reportMissingImports=false, reportCallIssue=false
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3.common.policies as policies
import torch
from sb3_contrib import TRPO
from sb3_contrib.trpo import trpo
from stable_baselines3.common.logger import configure

from benchmarks.audit.other_trpos.record import (
    Arrays,
    Order,
    flat,
    load,
    main,
    parameters_in_our_order,
    sizes,
)


class Blank(gymnasium.Env):
    """Spaces of the right sizes; it is never stepped."""

    def __init__(self, obs_dim: int, act_dim: int) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs_dim,))
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (act_dim,))


def update(arrays: Arrays) -> Arrays:
    """Everything that the update computes, in our order of parameters."""
    policies.preprocess_obs = lambda obs, *_, **__: obs
    widths, critic_widths = sizes(arrays, "policy."), sizes(arrays, "value.")
    rows = len(arrays["obs"])
    agent = TRPO(
        "MlpPolicy",
        Blank(widths[0], widths[-1]),
        n_steps=rows,
        batch_size=rows,
        n_critic_updates=1,
        target_kl=float(arrays["target_kl"]),
        normalize_advantage=bool(arrays["normalize"]),
        policy_kwargs={"net_arch": {"pi": widths[1:-1], "vf": critic_widths[1:-1]}},
        device="cpu",
    )
    agent.set_logger(configure(None, []))
    policy = agent.policy.double()
    extractor = policy.mlp_extractor
    actor = torch.nn.ModuleList([extractor.policy_net, policy.action_net])
    critic = torch.nn.ModuleList([extractor.value_net, policy.value_net])
    ours = parameters_in_our_order(actor, policy.log_std)
    values = parameters_in_our_order(critic)
    load(ours, arrays, "policy.")
    load(values, arrays, "value.")
    _fill(agent.rollout_buffer, arrays)

    seen: Arrays = {}
    kls: list[float] = []
    solve, divergence = trpo.conjugate_gradient_solver, trpo.kl_divergence

    def solver(product: Any, b: torch.Tensor, **options: Any) -> torch.Tensor:
        theirs = [p for n, p in policy.named_parameters() if "value" not in n]
        order = Order(ours, theirs)
        seen["gradient"] = order.to_ours(b)
        seen["product"] = order.to_ours(product(order.to_theirs(arrays["probe"])))
        x = solve(product, b, **options)
        seen["cg"] = order.to_ours(x)
        scale = np.sqrt(2 * agent.target_kl / float(x @ product(x)))
        seen["full_step"] = scale * seen["cg"]
        return x

    def kl_of(*distributions: Any) -> torch.Tensor:
        kl = divergence(*distributions)
        kls.append(float(kl.mean()))
        return kl

    trpo.conjugate_gradient_solver, trpo.kl_divergence = solver, kl_of
    before = flat(ours)
    agent.train()
    logged = agent.logger.name_to_value
    success = bool(logged["train/is_line_search_success"])
    return seen | {
        "policy": flat(ours),
        "before": before,
        "index": np.array(len(kls) - 2 if success else -1),
        "kl": np.array(kls[-1]),
        "surrogate_after": np.array(logged["train/policy_objective"]),
        "critic_gradient": flat(values, "gradient"),
    }


def _fill(buffer: Any, arrays: Arrays) -> None:
    buffer.observations = arrays["obs"][:, None]
    buffer.actions = arrays["actions"][:, None]
    buffer.log_probs, buffer.advantages = arrays["log_probs"], arrays["advantages"]
    buffer.returns, buffer.values = arrays["returns"], np.zeros_like(arrays["returns"])
    buffer.full, buffer.generator_ready = True, False


if __name__ == "__main__":
    main(update)
