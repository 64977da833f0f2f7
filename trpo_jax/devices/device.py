"""Devices by name, and the precision of matrix products on them."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from trpo.common.framework_settings import XLA_FLAG, XLA_THREADS
from trpo.common.machine import available_cores


try:
    from jax.extend.core import get_opaque_trace_state
except ImportError:  # JAX 0.8
    from jax.core import get_opaque_trace_state  # pyright: ignore


# TRPOConfig's name -> JAX's name of float32 matrix-product precision. JAX's default
# on recent GPUs is TF32, so "float32" is always asked for by name.
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
# JAX where it computes at once: not inside of jit, vmap, grad and their like.
_OUTSIDE = get_opaque_trace_state(convention="trpo")
# What JAX raises where a platform of JAX_PLATFORMS is missing, and when asked again.
NO_PLATFORM = (RuntimeError, AssertionError)
# Settings that would refuse what an agent does, which takes NumPy's arrays: name, the
# value that lets it, and the context of that value.
LENIENT: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("jax_numpy_dtype_promotion", "standard", jax.numpy_dtype_promotion),
    ("jax_transfer_guard", "allow", jax.transfer_guard),
)


def resolve_device(device: Any) -> Any:
    """The `jax.Device` called `device`, such as "cpu", "cuda:1", "gpu" or "tpu".

    "auto" is the first of those that JAX takes by default, an accelerator's if any.

    Raises:
        ValueError: there is no such device; the message lists those there are.
    """
    if isinstance(device, jax.Device):
        return device
    kind, _, index = str(device).partition(":")
    backend = None if kind == "auto" else kind
    try:
        return jax.local_devices(backend=backend)[int(index or 0)]
    except (*NO_PLATFORM, IndexError, ValueError) as error:
        raise ValueError(
            f"`device`: expected one that JAX {jax.__version__} finds ({_found()}), "
            f"got {device!r}. Run `trpo doctor`."
        ) from error


def _found() -> str:
    """Names of the devices there are, or why there are none."""
    try:
        return ", ".join(f"{d.platform}:{d.id}" for d in jax.devices())
    except NO_PLATFORM:
        asked = jax.config.values["jax_platforms"]
        return f"none, as JAX_PLATFORMS={asked} asks for others: unset it"


def require_dtype(dtype: np.dtype) -> None:
    """Raise ValueError unless JAX computes in this dtype."""
    if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "`dtype`: expected 'float32', got 'float64' while JAX's 64-bit mode is "
            "off. Set the environment variable JAX_ENABLE_X64=1 before starting."
        )


def seeded(seed: int) -> contextlib.AbstractContextManager[Any]:
    """Nothing: whoever draws weights in JAX says from which seed."""
    del seed
    return contextlib.nullcontext()


def own_settings(x64: bool) -> contextlib.AbstractContextManager[Any]:
    """Context in which JAX computes as an agent was made, whatever was set since.

    Args:
        x64: Whether 64-bit mode was on when the agent was made.

    Raises:
        ValueError: JAX traces a function at present.
    """
    if get_opaque_trace_state(convention="trpo") != _OUTSIDE:
        raise ValueError(
            "`agent`: expected calls from outside of jax.jit, vmap, grad and their "
            "like, got one from inside: weights, noise and counters would be frozen "
            "into the program. Take the pure function that `agent.policy_function()` "
            "returns."
        )
    found = [] if jax.config.read("jax_enable_x64") == x64 else [jax.enable_x64(x64)]
    found += [
        make(value)
        for name, value, make in LENIENT
        if getattr(jax.config, name) not in (value, None)
    ]
    return _entered(found) if found else contextlib.nullcontext()


@contextlib.contextmanager
def _entered(contexts: list[Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


def matmul_precision(name: str) -> contextlib.AbstractContextManager[Any]:
    """Context that traces float32 matrix products in "float32", "tf32", "bfloat16"."""
    return jax.default_matmul_precision(PRECISIONS[name])


def threads() -> int:
    """Threads that compute on the CPU; the last bits of sums depend on how many.

    XLA has one for each core that the process may use, or what the variable says.
    """
    asked = os.environ.get(XLA_THREADS, "")
    return int(asked) if asked.isdecimal() else available_cores()


def use_deterministic_kernels() -> None:
    """Compute the same bits each time, on a GPU too.

    Raises:
        ValueError: XLA was not told so before it started on a GPU.
    """
    resolve_device("auto")  # Says so if there is none.
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
