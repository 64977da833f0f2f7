"""Canonical NumPy state <-> modules and optimiser.

A module's own parameter names are the canonical ones, layout [out, in] included.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from trpo_torch.step_memory import StepMemory


# Canonical name of each slot of an optimiser's state -> torch's name.
OPTIMIZER_SLOTS = {
    "adam": {"first_moment": "exp_avg", "second_moment": "exp_avg_sq"},
    "sgd": {"momentum": "momentum_buffer"},
    # Without momentum there is nothing to remember.
    "plain_sgd": {},
}

# Canonical names of what a policy step leaves for the next one.
CG_SOLUTION, DAMPING = "policy_step.cg_solution.", "policy_step.damping"


def network_arrays(module: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    """Copies of a module's parameters under `prefix`."""
    return {
        prefix + name: _to_host(parameter)
        for name, parameter in module.named_parameters()
    }


@torch.no_grad()
def load_network(
    module: nn.Module, arrays: Mapping[str, np.ndarray], prefix: str
) -> None:
    """Copy canonical arrays into a module's parameters."""
    for name, parameter in module.named_parameters():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(arrays[prefix + name])))


def optimizer_arrays(
    optimizer: torch.optim.Optimizer, module: nn.Module
) -> dict[str, np.ndarray]:
    """Copies of an optimiser's state; zeros before its first step."""
    kind = _kind(optimizer)
    arrays, step = {}, 0
    for name, parameter in module.named_parameters():
        state = optimizer.state.get(parameter, {})
        step = int(state.get("step", 0))
        for slot, torch_name in OPTIMIZER_SLOTS[kind].items():
            value = state.get(torch_name)
            value = torch.zeros_like(parameter) if value is None else value
            arrays[f"value_optimizer.{slot}.{name}"] = _to_host(value)
    if kind == "adam":
        arrays["value_optimizer.step"] = np.array(step, dtype=np.int64)
    return arrays


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    module: nn.Module,
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Copy canonical arrays into an optimiser."""
    kind = _kind(optimizer)
    for name, parameter in module.named_parameters():
        state = {
            torch_name: torch.from_numpy(
                arrays[f"value_optimizer.{slot}.{name}"].copy()
            ).to(parameter.device)
            for slot, torch_name in OPTIMIZER_SLOTS[kind].items()
        }
        if kind == "adam":
            # torch keeps the count as a float32 tensor on the host.
            step = int(arrays["value_optimizer.step"])
            state["step"] = torch.tensor(float(step), dtype=torch.float32)
        optimizer.state[parameter] = state


def memory_arrays(memory: StepMemory, policy: nn.Module) -> dict[str, np.ndarray]:
    """Copies of what a policy step left; vectors [p] as the policy's parameters."""
    arrays = {}
    if memory.cg_solution is not None:
        named = dict(policy.named_parameters())
        pieces = memory.cg_solution.split([p.numel() for p in named.values()])
        for (name, parameter), piece in zip(named.items(), pieces, strict=True):
            arrays[CG_SOLUTION + name] = _to_host(piece.view_as(parameter))
    if memory.damping is not None:
        arrays[DAMPING] = _to_host(memory.damping)
    return arrays


def load_memory(
    template: StepMemory, policy: nn.Module, arrays: Mapping[str, np.ndarray]
) -> StepMemory:
    """The memory, with what `template` has, that `memory_arrays` named."""
    solution, damping = template
    if solution is not None:
        names = (CG_SOLUTION + name for name, _ in policy.named_parameters())
        flat = np.concatenate([arrays[name].reshape(-1) for name in names])
        solution = torch.from_numpy(flat).to(solution.device)
    if damping is not None:
        damping = torch.from_numpy(arrays[DAMPING].copy()).to(damping.device)
    return StepMemory(solution, damping)


def _kind(optimizer: torch.optim.Optimizer) -> str:
    if isinstance(optimizer, torch.optim.Adam):
        return "adam"
    return "sgd" if optimizer.defaults["momentum"] else "plain_sgd"


def _to_host(tensor: Tensor) -> np.ndarray:
    """A copy on the host."""
    return tensor.detach().cpu().numpy().copy()
