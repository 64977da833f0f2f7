"""Timing inside one process: in turns, after warm-up, each call to its end."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol


WARM_UP = 2
LEAST_REPEATS = 3
MOST_REPEATS = 50


class Resettable(Protocol):
    """What is timed: its `update` returns when the device has finished."""

    def reset(self) -> None:
        """Prepare the next call; not timed."""
        ...

    def update(self) -> None:
        """The call that is timed."""
        ...


def time_once(subject: Resettable) -> float:
    """Seconds of one update."""
    subject.reset()
    start = time.perf_counter()
    subject.update()
    return time.perf_counter() - start


def time_in_turns(
    subjects: Sequence[Resettable],
    seconds: float,
    warm_up: int = WARM_UP,
    least: int = LEAST_REPEATS,
) -> list[list[float]]:
    """Seconds of each update of each subject, taken in turns.

    Args:
        subjects: Timed one after the other, so that all meet the same noise.
        seconds: Time to spend.
        warm_up: Turns before the clock counts.
        least: Turns to take however long they last.
    """
    for _ in range(warm_up):
        for subject in subjects:
            time_once(subject)
    samples: list[list[float]] = [[] for _ in subjects]
    end = time.perf_counter() + seconds
    while len(samples[0]) < least or (
        time.perf_counter() < end and len(samples[0]) < MOST_REPEATS
    ):
        for times, subject in zip(samples, subjects, strict=True):
            times.append(time_once(subject))
    return samples


def resident_bytes() -> int:
    """Memory of this process now; its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_bytes()
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """Largest resident memory of this program so far.

    What the system counts for a process includes its parent's at the start, as a fork
    begins with the parent's pages; Linux also tells that of the program alone.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_peak_bytes(backend: str, device: str) -> int | None:
    """Largest memory that the framework took on an accelerator; None on a CPU."""
    if device == "cpu":
        return None
    if backend == "jax":
        from trpo_jax.devices.device import resolve_device

        statistics: Any = resolve_device(device).memory_stats() or {}
        return statistics.get("peak_bytes_in_use")
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def count_kernel_launches(run: Callable[[], Any]) -> int | None:
    """GPU kernels that `run` launches, of any framework; None if none can count them.

    PyTorch's profiler listens to the driver, and so sees JAX's kernels too.
    """
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        run()
        torch.cuda.synchronize()
    # The calls that start kernels are in the profile too, as events of the processor.
    on_gpu = torch.autograd.DeviceType.CUDA
    return sum(
        event.device_type == on_gpu and not event.name.startswith(("Memcpy", "Memset"))
        for event in profile.events() or ()
    )
