"""Devices by name, and the precision of matrix products on them."""

import os
from typing import Any

import jax
import numpy as np

from trpo.common.framework_settings import XLA_FLAG
from trpo.common.machine import available_cores


# TRPOConfig's name -> JAX's name of float32 matrix-product precision. JAX's default
# on recent GPUs is TF32, so "float32" is always asked for by name.
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}


def resolve_device(device: Any) -> Any:
    """The `jax.Device` called `device`, such as "cpu", "cuda:1", "gpu" or "tpu".

    Raises:
        ValueError: there is no such device; the message lists those there are.
    """
    if isinstance(device, jax.Device):
        return device
    kind, _, index = str(device).partition(":")
    try:
        return jax.local_devices(backend=kind)[int(index or 0)]
    except (RuntimeError, IndexError, ValueError) as error:
        names = [f"{d.platform}:{d.id}" for d in jax.devices()]
        raise ValueError(
            f"`device`: expected one that JAX {jax.__version__} finds "
            f"({', '.join(names)}), got {device!r}. Run `trpo doctor`."
        ) from error


def require_dtype(dtype: np.dtype) -> None:
    """Raise ValueError unless JAX computes in this dtype."""
    if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "`dtype`: expected 'float32', got 'float64' while JAX's 64-bit mode is "
            "off. Set the environment variable JAX_ENABLE_X64=1 before starting."
        )


def matmul_precision(name: str):  # noqa: ANN201
    """Context that traces float32 matrix products in "float32", "tf32", "bfloat16"."""
    return jax.default_matmul_precision(PRECISIONS[name])


def threads() -> int:
    """Threads that compute on the CPU; the last bits of sums depend on how many.

    XLA has one for each core that the process may use.
    """
    return available_cores()


def use_deterministic_kernels() -> None:
    """Compute the same bits each time, on a GPU too.

    Raises:
        ValueError: XLA was not told so before it started on a GPU.
    """
    if XLA_FLAG in os.environ.get("XLA_FLAGS", "") or jax.default_backend() == "cpu":
        return
    raise ValueError(
        f"`deterministic`: expected {XLA_FLAG} in XLA_FLAGS when JAX is imported, as "
        "`trpo train` sees to; got none. Call "
        "`trpo.common.framework_settings.set_deterministic_flags()` before that import."
    )


def to_floats(vector: jax.Array) -> list[float]:
    """A vector [n] as Python's numbers, in one transfer."""
    return np.asarray(vector).tolist()


def to_array(array: jax.typing.ArrayLike) -> np.ndarray:
    """A copy as a NumPy array: JAX's own memory is read-only."""
    return np.array(array)
