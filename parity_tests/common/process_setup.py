"""Set both frameworks up before anything is compared, and describe the machine."""

import gc
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import re
import subprocess
import sys
from typing import Any

from trpo.common.machine import processor_name


THREADS = 1
"""torch's threads: its sums depend on how many, and two wait on a busy machine."""

PACKAGES = ("torch", "jax", "jaxlib", "flax", "optax", "numpy", "gymnasium")


# Half of what Linux allows: some checks compile for many sizes before they end.
MOST_MAPPINGS = 32_000


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _quick_options() -> dict[str, Any]:
    options: dict[str, Any] = {"xla_backend_optimization_level": 0}
    # From 0.11 on there is no such option, and an unknown one is an error.
    minor = re.match(r"0\.(\d+)", _version("jaxlib"))
    if minor and int(minor[1]) < 11:
        options["xla_cpu_use_fusion_emitters"] = False
    return options


# XLA's options for programs that take longer to compile than to run: they compile in a
# third of the time. For programs of this suite alone; an agent's own are compiled as
# those of its users are.
QUICK = _quick_options()
# What users compile with, where a process has `QUICK_FLAGS`.
AS_USERS = {
    name: {"xla_backend_optimization_level": 3}.get(name, True) for name in QUICK
}
# The same as `XLA_FLAGS`, for whole processes.
QUICK_FLAGS = " ".join(f"--{name}={str(x).lower()}" for name, x in QUICK.items())


def prepare() -> None:
    """Set both frameworks' precision, memory and threads; call before anything else.

    Raises:
        RuntimeError: a framework is missing, or JAX was imported with 64 bits off, so
            that float64 would silently be float32.
    """
    for name in ("torch", "jax", "flax", "optax"):
        if importlib.util.find_spec(name) is None:
            raise RuntimeError(
                f"The parity suite compares two frameworks and {name} is missing. "
                "Install both with: pip install 'trpo[torch,jax]'"
            )
    # On a GPU, JAX would take three quarters of the memory and leave torch the rest.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if "jax" not in sys.modules:
        os.environ["JAX_ENABLE_X64"] = "1"
    import jax
    import torch

    if not jax.config.read("jax_enable_x64"):
        raise RuntimeError(
            "JAX was imported with its 64-bit mode off, so float64 would silently be "
            "float32. Set the environment variable JAX_ENABLE_X64=1 before starting."
        )
    jax.config.update("jax_default_matmul_precision", "highest")
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(THREADS)


def drop_compiled_programs() -> bool:
    """Forget what JAX has compiled if it takes most of a process's memory mappings.

    Linux allows a process 65,530 of them. A program compiled for a CPU takes hundreds,
    and with none left the compiler does not raise: the process ends.

    Returns:
        Whether it was necessary.
    """
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") < MOST_MAPPINGS:
        return False
    import jax

    jax.clear_caches()
    gc.collect()
    return True


def devices_present() -> list[str]:
    """Devices that both frameworks find: "cpu", and "cuda" where there is one."""
    import jax
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available() and any(d.platform == "gpu" for d in jax.devices()):
        devices.append("cuda")
    return devices


def describe() -> dict[str, Any]:
    """Versions, commit, processor, precision and threads, on which results depend."""
    import jax
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "commit": commit(),
        "packages": {name: _version(name) for name in PACKAGES},
        "torch_threads": torch.get_num_threads(),
        "torch_matmul_precision": torch.get_float32_matmul_precision(),
        "jax_matmul_precision": str(jax.config.jax_default_matmul_precision),
        "jax_devices": [f"{d.platform}:{d.id}" for d in jax.devices()],
        "cuda_devices": [
            torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
        ],
    }


def commit() -> str:
    """The commit of this checkout, with "-dirty" if its files have changed since.

    An installed package, whose folder may lie in another project's checkout, has
    "none" and its version instead.
    """
    this_file = pathlib.Path(__file__)
    try:
        for command in (
            ["ls-files", "--error-unmatch", this_file.name],
            ["describe", "--always", "--dirty"],
        ):
            git = subprocess.run(
                ["git", *command], cwd=this_file.parent, capture_output=True, text=True,
                timeout=10, check=True,
            )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return f"none, version {_version('trpo')}"
    return git.stdout.strip()
