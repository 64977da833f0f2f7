"""A device that PyTorch takes for another one than the CPU, with a CPU's arithmetic.

What is on it says so (`device.type`, `is_cpu`), an operation that mixes it with what is
on the host is an error as on a GPU, and every number that leaves it is counted. It
bears the name "meta", which PyTorch knows without hardware; its tensors hold data. So
an agent runs on it whole, and what it computes is to the bit what it is on the CPU.
"""

from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing


DEVICE = torch.device("meta")
aten = torch.ops.aten
# Copies between devices, and reads: nothing else may have tensors of both.
CROSSING = (aten._to_copy.default, aten.copy_.default)
READS = (aten._local_scalar_dense.default, aten.equal.default)
# Have no deterministic kernel on a GPU: see `torch.use_deterministic_algorithms`.
REFUSED = (aten.cumsum.default, aten.put.default, aten.histc.default)
# Where PyTorch lists the devices that have fused optimisers.
FUSED_DEVICES = (
    "torch.utils._foreach_utils._get_fused_kernels_supported_devices",
    "torch.optim.optimizer._get_fused_kernels_supported_devices",
)


class OnDevice(Tensor):
    """A tensor whose data, `host`, only `SimulatedDevice` reaches."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> "OnDevice":
        made = Tensor._make_wrapper_subclass(
            cls, host.shape, strides=host.stride(), dtype=host.dtype, device=DEVICE,
            storage_offset=host.storage_offset(), requires_grad=False,
        )  # fmt: skip
        made.host = host
        return made

    def tolist(self) -> Any:
        # PyTorch's own refuses a subclass.
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.host})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of the simulated device")


class SimulatedDevice(TorchDispatchMode):
    """The context in which `DEVICE` is one.

    Args:
        float64: Whether it has float64; Apple's GPUs do not.

    Attributes:
        reads: operations that had the host wait for a number of the device.
        to_host: sizes of what was copied from it; the host waits for these too.
        to_device: sizes of what was copied to it.
    """

    def __init__(self, *, float64: bool = True) -> None:
        super().__init__()
        self._float64 = float64
        self._patches = ExitStack()
        self.reads: list[str] = []
        self.to_host: list[int] = []
        self.to_device: list[int] = []

    def __enter__(self):
        devices = ["cpu", DEVICE.type]
        for name in FUSED_DEVICES:
            patch = mock.patch(name, return_value=devices)
            self._patches.enter_context(patch)
        return super().__enter__()

    def __exit__(self, *raised):
        self._patches.close()
        return super().__exit__(*raised)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = pytree.tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        here = [isinstance(tensor, OnDevice) for tensor in tensors]
        asked = kwargs.get("device")
        on_device = any(here) if asked is None else torch.device(asked) == DEVICE
        if func in CROSSING:
            self._count(func, args, on_device)
        elif any(here) and not all(here):
            self._require_numbers(func, tensors)
        if func in READS and any(here):
            self.reads.append(func.__name__)
        if (
            func in REFUSED
            and any(here)
            and torch.are_deterministic_algorithms_enabled()
        ):
            raise RuntimeError(f"{func} does not have a deterministic implementation")
        inner_args, inner = pytree.tree_map(_host_of, (args, kwargs))
        if asked is not None:
            inner["device"] = "cpu"
        found = func(*inner_args, **inner)
        if not on_device:
            return found
        made = pytree.tree_map(self._made, found)
        return return_and_correct_aliasing(func, args, kwargs, made)

    def _made(self, found: Any) -> Any:
        if not isinstance(found, Tensor) or isinstance(found, OnDevice):
            return found
        if not self._float64 and found.dtype == torch.float64:
            raise TypeError("the simulated device has no float64")
        return OnDevice(found)

    def _count(self, func: Any, args: tuple, on_device: bool) -> None:
        source = args[1] if func is aten.copy_.default else args[0]
        if func is aten.copy_.default:
            on_device = isinstance(args[0], OnDevice)
        if isinstance(source, OnDevice) and not on_device:
            self.to_host.append(source.numel())
        elif on_device and not isinstance(source, OnDevice):
            self.to_device.append(source.numel())

    def _require_numbers(self, func: Any, tensors: list[Tensor]) -> None:
        """Of the host, an operation entry by entry takes tensors [] like numbers."""
        for tensor in tensors:
            number = tensor.dim() == 0 and torch.Tag.pointwise in func.tags
            if not (isinstance(tensor, OnDevice) or number):
                raise RuntimeError(
                    f"{func}: expected all tensors on the device, got one of shape "
                    f"{list(tensor.shape)} on the host."
                )


def _host_of(leaf: Any) -> Any:
    return leaf.host if isinstance(leaf, OnDevice) else leaf
