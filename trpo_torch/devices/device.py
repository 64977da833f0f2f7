"""Devices by name, and the precision of matrix products on them."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor


# TRPOConfig's name -> torch's name of float32 matrix-product precision.
PRECISIONS = {"float32": "highest", "tf32": "high", "bfloat16": "medium"}
# Blocks of `matmul_precision` that are open, in all threads: thread, and precision.
_open: list[tuple[int, str]] = []
_changed = threading.Condition()
_of_process: tuple[str, Any] = ("highest", None)


def resolve_device(device: torch.device | str) -> torch.device:
    """The device called `device`, such as "cpu", "cuda", "gpu" or "cuda:1".

    "auto" is "cuda" where there is one, else "cpu".

    Raises:
        ValueError: there is no such device; the message lists those there are.
    """
    name = str(device).replace("gpu", "cuda")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
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
def seeded(seed: int) -> Iterator[None]:
    """Have PyTorch draw the weights of a block's modules from this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def own_settings(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Context in which PyTorch computes as an agent is set, whatever the process has.

    That is with gradients, in the tensors' own precision, and with new tensors on the
    agent's device. What the process has set is as before afterwards.
    """
    with contextlib.ExitStack() as stack:
        # An interrupt inside of `torch.no_grad` leaves gradients off.
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        torch.set_grad_enabled(True)
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        # Faster than to ask for the default device.
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(device)
        return stack.pop_all()


@contextlib.contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Compute float32 products and convolutions in "float32", "tf32" or "bfloat16".

    PyTorch has one precision for the process: threads that ask for another wait until
    no one computes in this one. The process's own comes back at the end.
    """
    global _of_process
    thread = threading.get_ident()
    with _changed:
        # A block inside of another of this thread can't wait for that one's end.
        while _open and not any(of in ((thread, of[1]), (of[0], name)) for of in _open):
            _changed.wait()
        if not _open:
            _of_process = _precision()
        _open.append((thread, name))
        _set_precision(PRECISIONS[name], name != "float32")
    try:
        yield
    finally:
        with _changed:
            _open.remove((thread, name))
            if _open:
                last = _open[-1][1]
                _set_precision(PRECISIONS[last], last != "float32")
            else:
                _set_precision(*_of_process)
                _changed.notify_all()


def _precision() -> tuple[str, Any]:
    """The process's precision of products, and whether convolutions take TF32."""
    cudnn: Any = torch.backends.cudnn
    # Convolutions have a switch of their own, which is on by default.
    convolutions = cudnn.allow_tf32 if torch.backends.cuda.is_built() else None
    return torch.get_float32_matmul_precision(), convolutions


def _set_precision(products: str, convolutions: Any) -> None:
    if torch.get_float32_matmul_precision() != products:
        torch.set_float32_matmul_precision(products)
    if torch.backends.cuda.is_built():
        cudnn: Any = torch.backends.cudnn
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
