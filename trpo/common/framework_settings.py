"""Environment variables that frameworks read once: set before either is imported.

A variable that the user has set stays as it is.
"""

import os
import platform
import sys
from pathlib import Path

from trpo.common.machine import available_cores
from trpo.common.validation import require_count


XLA_FLAG = "--xla_gpu_deterministic_ops=true"
CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
XLA_THREADS, MOST_THREADS = "NPROC", 4096
BRIEF_SPINNING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
OPT_OUT = "TRPO_COMPILATION_CACHE"
"""Environment variable; 0 compiles afresh in every run."""


def prepare_frameworks(
    dtype: str, deterministic: bool, threads: int | None = None
) -> None:
    """Set what a run with these settings needs.

    Args:
        dtype: Of the agent; float64 needs JAX's 64-bit mode.
        deterministic: Whether a GPU has to compute the same bits each time.
        threads: That compute on the CPU; None for each framework's own choice.

    Raises:
        ValueError: `threads` is no count.
    """
    if threads is not None:
        require_count("threads", threads, maximum=MOST_THREADS)
        # Of OpenMP, in PyTorch; and of XLA's pool. What the user typed counts.
        os.environ |= {"OMP_NUM_THREADS": str(threads), XLA_THREADS: str(threads)}
    if dtype == "float64" and "jax" not in sys.modules:
        os.environ.setdefault("JAX_ENABLE_X64", "1")
    if deterministic:
        set_deterministic_flags()
    enable_compilation_cache()
    limit_spinning()


def limit_spinning() -> None:
    """Have PyTorch's threads spin briefly while they wait for each other, then sleep.

    Where other programs use the cores too, a thread that spins keeps the one that it
    waits for from running: by default for 300,000 turns of a loop. One that sleeps at
    once has to be woken, which takes longer than most waits. Spinning for about as long
    as waking takes costs at most twice what the better of the two does (Karlin et al.
    1991); `benchmarks.scale.busy` measures it. OpenMP reads the variables as PyTorch is
    imported; a library other than GNU's knows the first alone.
    """
    if "torch" not in sys.modules and not {*BRIEF_SPINNING} & {*os.environ}:
        os.environ |= BRIEF_SPINNING


def set_deterministic_flags() -> None:
    """Have a GPU compute the same bits each time, which of itself it does not.

    Sums by atomic additions come in any order, and a kernel may be chosen by the time
    that it took. On a CPU both backends give the same bits without these flags. JAX's
    are left as they are if it has been imported, when it is too late.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if XLA_FLAG not in flags and "jax" not in sys.modules:
        os.environ["XLA_FLAGS"] = f"{flags} {XLA_FLAG}".strip()
    os.environ.setdefault(*CUBLAS)


def enable_compilation_cache() -> Path | None:
    """Have JAX keep compiled programs, so that the next run of equal sizes starts fast.

    They are kept in `$XDG_CACHE_HOME/trpo/jax/<host>`, by default under `~/.cache`;
    each host has its own, as programs are compiled for one processor.

    Returns:
        The directory, or None if it is left off, there is no home directory, or JAX
        has been imported.
    """
    if os.environ.get(OPT_OUT) == "0" or "jax" in sys.modules:
        return None
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # A service's user may have a home that does not exist: it is not made here.
    if not os.path.isdir(os.path.dirname(cache)):
        return None
    directory = Path(cache) / "trpo" / "jax" / (platform.node() or "localhost")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(directory))
    # JAX's default leaves out what compiles within a second, as most of `act` does.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])


def reserve_cpu_devices(members: int) -> None:
    """Have JAX divide a CPU into a device for each core, so that members use them all.

    A single member may use two, see `trpo_jax.loop.program.parts_mesh`.
    """
    if "jax" not in sys.modules:
        devices = min(available_cores(), max(members, 2))
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(devices))
