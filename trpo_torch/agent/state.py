"""Canonical NumPy state <-> modules and optimiser.

A module's own parameter names are the canonical ones, layout [out, in] included. What
is to be restored soon stays on the device: then `copy` clones, and tensors are loaded.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo_torch.devices.device import to_array


Copy = Callable[[Tensor], Any]

# Canonical name of each slot of an optimiser's state -> torch's name.
OPTIMIZER_SLOTS: dict[str, dict[str, str]] = {
    "adam": {"first_moment": "exp_avg", "second_moment": "exp_avg_sq"},
    "sgd": {"momentum": "momentum_buffer"},
    # Without momentum there is nothing to remember.
    "plain_sgd": {},
}


def flat_params(module: nn.Module) -> Tensor:
    """A module's parameters as one vector [p], in `named_parameters` order."""
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


@torch.no_grad()
def set_flat_params(module: nn.Module, flat_params: Tensor) -> None:
    """Copy a vector [p] into a module's parameters."""
    offset = 0
    for parameter in module.parameters():
        piece = flat_params[offset : offset + parameter.numel()]
        parameter.copy_(piece.view_as(parameter))
        offset += parameter.numel()


def network_arrays(
    module: nn.Module, prefix: str, copy: Copy = to_array
) -> dict[str, Any]:
    """Copies of a module's parameters under `prefix`."""
    return {prefix + n: copy(parameter) for n, parameter in module.named_parameters()}


@torch.no_grad()
def load_network(module: nn.Module, arrays: Mapping[str, Any], prefix: str) -> None:
    """Copy canonical arrays into a module's parameters."""
    for name, parameter in module.named_parameters():
        parameter.copy_(_as_tensor(arrays[prefix + name]))


def optimizer_arrays(
    optimizer: torch.optim.Optimizer, module: nn.Module, copy: Copy = to_array
) -> dict[str, Any]:
    """Copies of an optimiser's state; zeros before its first step."""
    kind = _kind(optimizer)
    arrays, step = {}, torch.zeros(())
    for name, parameter in module.named_parameters():
        state = optimizer.state.get(parameter, {})
        step = state.get("step", step)
        for slot, torch_name in OPTIMIZER_SLOTS[kind].items():
            value = state.get(torch_name)
            value = torch.zeros_like(parameter) if value is None else value
            arrays[f"value_optimizer.{slot}.{name}"] = copy(value)
    if kind == "adam":
        arrays["value_optimizer.step"] = copy(step.to(torch.int64))
    return arrays


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    module: nn.Module,
    arrays: Mapping[str, Any],
) -> None:
    """Copy canonical arrays into an optimiser."""
    kind = _kind(optimizer)
    for name, parameter in module.named_parameters():
        device, state = parameter.device, {}
        for slot, torch_name in OPTIMIZER_SLOTS[kind].items():
            value = _as_tensor(arrays[f"value_optimizer.{slot}.{name}"])
            state[torch_name] = value.to(device, copy=True)
        if kind == "adam":
            # On the device too, as fused kernels read it there.
            step = _as_tensor(arrays["value_optimizer.step"])
            state["step"] = step.to(device, torch.float32, copy=True)
        optimizer.state[parameter] = state


def _kind(optimizer: torch.optim.Optimizer) -> str:
    if isinstance(optimizer, torch.optim.Adam):
        return "adam"
    return "sgd" if optimizer.defaults["momentum"] else "plain_sgd"


def _as_tensor(array: Any) -> Tensor:
    if isinstance(array, Tensor):
        return array
    # A copy: torch shares no memory that it may not write to, or that runs backwards.
    return torch.from_numpy(np.array(array, order="C"))
