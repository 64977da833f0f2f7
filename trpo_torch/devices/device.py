"""Devices by name, and the precision of matrix products on them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor


# TRPOConfig's name -> torch's name of float32 matrix-product precision.
PRECISIONS = {"float32": "highest", "tf32": "high", "bfloat16": "medium"}


def resolve_device(device: torch.device | str) -> torch.device:
    """The device called `device`, such as "cpu", "cuda", "gpu" or "cuda:1".

    Raises:
        ValueError: there is no such device; the message lists those there are.
    """
    name = str(device).replace("gpu", "cuda")
    try:
        resolved = torch.device(name)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        names = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ValueError(
            f"`device`: expected one that PyTorch {torch.__version__} finds "
            f"({', '.join(names)}), got {device!r}. Run `trpo doctor`."
        ) from error
    return resolved


def require_dtype(dtype: torch.dtype, device: torch.device) -> None:
    """Raise ValueError unless the device computes in this dtype."""
    try:
        torch.empty(0, dtype=dtype, device=device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"`dtype`: expected 'float32' on {device}, got {dtype}, which it lacks."
        ) from error


@contextlib.contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Compute float32 products and convolutions in "float32", "tf32" or "bfloat16"."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISIONS[name])
    on_gpu = torch.backends.cuda.is_built()
    cudnn: Any = torch.backends.cudnn
    # Convolutions have a switch of their own, which is on by default.
    convolutions = cudnn.allow_tf32 if on_gpu else None
    if on_gpu:
        cudnn.allow_tf32 = name != "float32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        if on_gpu:
            cudnn.allow_tf32 = convolutions


def threads() -> int:
    """Threads that compute on the CPU; the last bits of sums depend on how many."""
    return torch.get_num_threads()


def use_deterministic_kernels() -> None:
    """Compute the same bits each time, on a GPU too.

    Raises:
        RuntimeError: later, by PyTorch, of an operation that has no such kernel.
    """
    torch.use_deterministic_algorithms(True)
    if torch.backends.cuda.is_built():
        cudnn: Any = torch.backends.cudnn
        cudnn.benchmark = False


def to_floats(*numbers: Tensor) -> list[float]:
    """Tensors [] as Python's numbers, in one transfer: the host waits at each."""
    return torch.stack(numbers).tolist()


def to_array(tensor: Tensor) -> np.ndarray:
    """A copy as a NumPy array."""
    return tensor.detach().cpu().numpy().copy()
