"""One update of skrl's TRPO, its own `update`, on a given batch.

Advantages and returns are given; how skrl estimates them is `skrl_advantages.py`.
"""

# pyright: reportMissingImports=false

from typing import Any

import gymnasium
import numpy as np
import torch
from skrl.agents.torch.trpo import TRPO, trpo
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model

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


class Policy(GaussianMixin, Model):
    """Mean by a network, standard deviations free."""

    def __init__(self, spaces: dict, widths: list[int]) -> None:
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self)
        self.net = network(widths)
        self.log_std = torch.nn.Parameter(torch.zeros(widths[-1]))

    def compute(self, inputs: dict, role: str = "") -> tuple:
        """Mean actions and the logarithm of the standard deviations."""
        mean = self.net(inputs["observations"])
        return mean, {"log_std": self.log_std.expand_as(mean)}


class Value(DeterministicMixin, Model):
    """A value by a network."""

    def __init__(self, spaces: dict, widths: list[int]) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = network(widths)

    def compute(self, inputs: dict, role: str = "") -> tuple:
        """Values."""
        return self.net(inputs["observations"]), {}


def update(arrays: Arrays) -> Arrays:
    """Everything that the update computes, in our order of parameters."""
    widths, rows = sizes(arrays, "policy."), len(arrays["obs"])
    spaces = {
        "observation_space": gymnasium.spaces.Box(-np.inf, np.inf, (widths[0],)),
        "action_space": gymnasium.spaces.Box(-np.inf, np.inf, (widths[-1],)),
        "device": "cpu",
    }
    policy, value = Policy(spaces, widths), Value(spaces, sizes(arrays, "value."))
    ours = parameters_in_our_order(policy.net, policy.log_std)
    values = parameters_in_our_order(value.net)
    load(ours, arrays, "policy.")
    load(values, arrays, "value.")
    memory = _memory(arrays, rows)
    agent = TRPO(
        models={"policy": policy, "value": value},
        memory=memory,
        cfg={
            "max_kl_divergence": float(arrays["target_kl"]),
            "learning_epochs": 1,
            "mini_batches": 1,
            # Unclipped, so that the critic's gradient is seen as it is.
            "grad_norm_clip": 0,
        },
        **spaces,
    )
    agent._tensors_names_policy = [
        "observations", "states", "actions", "log_prob", "advantages",
    ]  # fmt: skip
    agent._tensors_names_value = ["observations", "states", "returns"]
    agent._current_next_observations = torch.as_tensor(arrays["obs"][-1:])
    agent._current_next_states = None

    seen: Arrays = {}
    order = Order(ours, list(policy.parameters()))
    solve = trpo.conjugate_gradient
    kls: list[float] = []
    divergence = trpo.kl_divergence

    def solver(*, b: torch.Tensor, **given: Any) -> torch.Tensor:
        seen["gradient"] = order.to_ours(b)
        inputs = {k: given[k] for k in ("policy", "observations", "states", "damping")}
        product = lambda v: trpo.fisher_vector_product(vector=v, **inputs)
        seen["product"] = order.to_ours(product(order.to_theirs(arrays["probe"])))
        x = solve(b=b, **given)
        seen["cg"] = order.to_ours(x)
        scale = torch.sqrt(2 * agent.cfg.max_kl_divergence / (x @ product(x)))
        seen["full_step"] = float(scale) * seen["cg"]
        return x

    def kl_of(*, policy_1: Any, policy_2: Any, **given: Any) -> torch.Tensor:
        kl = divergence(policy_1=policy_1, policy_2=policy_2, **given)
        if policy_1 is not policy_2:
            kls.append(float(kl))
        return kl

    given = [torch.as_tensor(arrays[n])[:, None] for n in ("returns", "advantages")]
    trpo.compute_gae = lambda **_: given
    trpo.conjugate_gradient, trpo.kl_divergence = solver, kl_of
    before = flat(ours)
    agent.update(timestep=0, timesteps=1)
    after = flat(ours)
    moved = bool(np.any(after != before))
    return seen | {
        "policy": after,
        "before": before,
        "index": np.array(len(kls) - 1 if moved else -1),
        "kl": np.array(kls[-1]),
        "surrogate": np.array(agent.tracking_data["Loss / Policy loss"][-1]),
        "critic_gradient": flat(values, "gradient"),
    }


def _memory(arrays: Arrays, rows: int) -> RandomMemory:
    memory = RandomMemory(memory_size=rows, num_envs=1, device="cpu")
    contents = {
        "observations": arrays["obs"],
        "actions": arrays["actions"],
        "log_prob": arrays["log_probs"],
        "values": np.zeros((rows, 1)),
        "rewards": np.zeros((rows, 1)),
        "terminated": np.zeros((rows, 1), bool),
        "truncated": np.zeros((rows, 1), bool),
        "returns": arrays["returns"],
        "advantages": arrays["advantages"],
    }
    # Each new tensor fills those before it with NaN: all are made first.
    tensors = {name: torch.as_tensor(a)[:, None] for name, a in contents.items()}
    for name, tensor in tensors.items():
        memory.create_tensor(name, size=tensor.shape[-1], dtype=tensor.dtype)
    for name, tensor in tensors.items():
        memory.set_tensor_by_name(name, tensor)
    memory.filled = True
    return memory


if __name__ == "__main__":
    main(update)
