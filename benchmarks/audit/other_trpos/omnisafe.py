"""One update of OmniSafe's TRPO, its own `_update_actor`, on a given batch.

OmniSafe imports Safety Gymnasium, which does not import on Python 3.11; nothing of it
is used in an update, and an empty module stands in for it.
"""

# pyright: reportMissingImports=false

import sys
import types
from typing import Any

import gymnasium
import numpy as np
import torch

from benchmarks.audit.other_trpos.record import (
    Arrays,
    Order,
    flat,
    load,
    main,
    parameters_in_our_order,
    sizes,
)


class Absent(types.ModuleType):
    """A module of which every name is an empty class."""

    __path__: list[str] = []  # noqa: RUF012 (as the import system has it)

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Log:
    """Takes what is logged, and keeps the last value of each number."""

    def __init__(self) -> None:
        self.values: dict = {}

    def store(self, values: dict) -> None:
        """Keep these numbers."""
        self.values |= values

    def log(self, *_: Any) -> None:
        """Nothing is printed."""


def without_safety_gymnasium() -> None:
    """Let OmniSafe import where Safety Gymnasium can't be."""
    sys.modules["safety_gymnasium"] = Absent("safety_gymnasium")


def update(arrays: Arrays) -> Arrays:
    """Everything that the update computes, in our order of parameters."""
    without_safety_gymnasium()
    from omnisafe.algorithms.on_policy.base import trpo
    from omnisafe.models.actor.gaussian_learning_actor import GaussianLearningActor
    from omnisafe.models.critic.v_critic import VCritic

    widths, critic_widths = sizes(arrays, "policy."), sizes(arrays, "value.")
    spaces = (
        gymnasium.spaces.Box(-np.inf, np.inf, (widths[0],)),
        gymnasium.spaces.Box(-1.0, 1.0, (widths[-1],)),
    )
    actor = GaussianLearningActor(*spaces, widths[1:-1], activation="tanh")
    critic = VCritic(*spaces, critic_widths[1:-1], activation="tanh")
    ours = parameters_in_our_order(actor.mean, actor.log_std)
    values = parameters_in_our_order(critic)
    load(ours, arrays, "policy.")
    load(values, arrays, "value.")

    agent = object.__new__(trpo.TRPO)
    agent._logger = Log()
    agent._actor_critic = types.SimpleNamespace(
        actor=actor,
        reward_critic=critic,
        reward_critic_optimizer=torch.optim.Adam(critic.parameters(), lr=1e-3),
    )
    # The defaults of its configuration file.
    settings = types.SimpleNamespace(
        target_kl=float(arrays["target_kl"]), cg_damping=0.1, cg_iters=15,
        fvp_sample_freq=1, use_critic_norm=True, critic_norm_coef=0.001,
        use_max_grad_norm=False, max_grad_norm=40.0,
    )  # fmt: skip
    agent._cfgs = types.SimpleNamespace(algo_cfgs=settings)

    seen: Arrays = {}
    order = Order(ours, list(actor.parameters()))
    solve = trpo.conjugate_gradients

    def solver(product: Any, b: torch.Tensor, count: int) -> torch.Tensor:
        seen["gradient"] = order.to_ours(b)
        seen["product"] = order.to_ours(product(order.to_theirs(arrays["probe"])))
        x = solve(product, b, count)
        seen["cg"] = order.to_ours(x)
        scale = torch.sqrt(2 * settings.target_kl / (x @ product(x) + 1e-8))
        seen["full_step"] = float(scale) * seen["cg"]
        return x

    losses: list[float] = []
    surrogate_of = agent._loss_pi

    def loss_of(*given: torch.Tensor) -> torch.Tensor:
        loss = surrogate_of(*given)
        losses.append(float(loss))
        return loss

    trpo.conjugate_gradients, agent._loss_pi = solver, loss_of
    tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    before = flat(ours)
    advantages = tensors["advantages"][:, 0]
    agent._update_actor(
        tensors["obs"], tensors["actions"], tensors["log_probs"][:, 0],
        advantages, torch.zeros_like(advantages),
    )  # fmt: skip
    logged = dict(agent._logger.values)
    agent._update_reward_critic(tensors["obs"], tensors["returns"][:, 0])
    return seen | {
        "policy": flat(ours),
        "surrogate": np.array(-losses[0]),
        "before": before,
        "index": np.array(logged["Misc/AcceptanceStep"] - 1),
        "kl": np.array(logged["Train/KL"]),
        "critic_gradient": flat(values, "gradient"),
    }


if __name__ == "__main__":
    main(update)
