"""The machine: its fingerprint, and the peaks that a roofline needs, measured."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trpo.common.machine import available_cores


PACKAGES = (
    "torch", "jax", "jaxlib", "flax", "optax", "numpy", "gymnasium", "mujoco",
    "envpool", "sb3-contrib", "stable-baselines3", "tianshou",
)  # fmt: skip
# Square, and the two shapes of a 256-unit layer's products on a batch of 8,192.
MATMUL_SHAPES = ((2048, 2048, 2048), (8192, 256, 256), (256, 8192, 256))
COPY_BYTES = 256 * 2**20
MATMUL_SECONDS = 0.7


def fingerprint(device: str, threads: int) -> dict[str, Any]:
    """What a timing depends on; imports no framework.

    Args:
        device: Device name that the frameworks are given.
        threads: Threads that every process is pinned to.
    """
    kernel, _, _ = platform.release().partition("-")
    return {
        "device": device,
        "accelerator": _accelerator() if device != "cpu" else "none",
        "processor": _processor(),
        "cores": available_cores(),
        "threads": threads,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "cache_l2": _read("/sys/devices/system/cpu/cpu0/cache/index2/size"),
        "cache_l3": _read("/sys/devices/system/cpu/cpu0/cache/index3/size"),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
                            / 2**30),
        "system": f"{platform.system()} {kernel}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }  # fmt: skip


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _processor() -> str:
    match = re.search(r"model name\s*: (.+)", _read("/proc/cpuinfo"))
    return match[1] if match else platform.machine()


def _accelerator() -> str:
    if (command := shutil.which("nvidia-smi")) is None:
        return "unknown"
    query = "--query-gpu=name,driver_version,clocks.max.sm,power.limit"
    found = subprocess.run(
        [command, query, "--format=csv,noheader"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return found.stdout.strip() or "unknown"


def measure_peaks(device: str) -> dict[str, float]:
    """Peaks of this machine.

    Returns:
        The rates of `measure_matmul`; and `bandwidth`: bytes per second of copying an
        array larger than the caches, a byte read and a byte written each counted.
    """
    peaks = measure_matmul(device)
    peaks["bandwidth"] = 2.0 * COPY_BYTES / _best_seconds(_copy(device))
    return peaks


def measure_matmul(device: str) -> dict[str, float]:
    """Peaks of matrix products.

    Returns:
        For each framework that is installed, `<framework>_flops`: the best float32
        matrix-product rate over `MATMUL_SHAPES` in operations per second.
    """
    peaks = {}
    for framework in PRODUCTS:
        if _version(framework) != "not installed":
            rates = []
            for m, k, n in MATMUL_SHAPES:
                product = PRODUCTS[framework](device, (m, k), (k, n))
                seconds = _best_seconds(product)
                rates.append(2.0 * m * k * n / seconds)
            peaks[f"{framework}_flops"] = max(rates)
    return peaks


def _best_seconds(run: Callable[[], Any]) -> float:
    """Shortest of many runs after one to warm up: a peak is what can be reached."""
    run()
    best, end = float("inf"), time.perf_counter() + MATMUL_SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _torch_product(
    device: str, left: tuple[int, int], right: tuple[int, int]
) -> Callable[[], Any]:
    import torch

    from trpo_torch.devices.device import resolve_device

    on = resolve_device(device)
    a, b = torch.ones(left, device=on), torch.ones(right, device=on)
    out = torch.empty((left[0], right[1]), device=on)

    def run() -> None:
        torch.mm(a, b, out=out)
        if on.type == "cuda":
            torch.cuda.synchronize(on)

    return run


def _jax_product(
    device: str, left: tuple[int, int], right: tuple[int, int]
) -> Callable[[], Any]:
    import jax

    from trpo_jax.devices.device import matmul_precision, resolve_device

    on = resolve_device(device)
    a, b = (jax.device_put(np.ones(shape, np.float32), on) for shape in (left, right))

    @jax.jit
    def product(x: jax.Array, y: jax.Array) -> jax.Array:
        with matmul_precision("float32"):
            return x @ y

    return lambda: product(a, b).block_until_ready()


def _copy(device: str) -> Callable[[], Any]:
    """Copy of a large array: torch's, or NumPy's on a CPU without torch."""
    if _version("torch") == "not installed":
        source = np.ones(COPY_BYTES, np.uint8)
        target = np.empty_like(source)
        return lambda: np.copyto(target, source)
    import torch

    from trpo_torch.devices.device import resolve_device

    on = resolve_device(device)
    old = torch.ones(COPY_BYTES // 4, device=on)
    new = torch.empty_like(old)

    def run() -> None:
        new.copy_(old)
        if on.type == "cuda":
            torch.cuda.synchronize(on)

    return run


# Framework -> function that makes a product of two matrices of ones, to be called.
PRODUCTS = {"torch": _torch_product, "jax": _jax_product}
