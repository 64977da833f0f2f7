"""This machine's processor, and the cores that this process may use."""

import os
import platform
from pathlib import Path


CPU_INFO = Path("/proc/cpuinfo")


def is_amd() -> bool:
    """Whether it is one of AMD's; not, if its maker can't be told."""
    text = platform.processor()
    if CPU_INFO.exists():
        # The first of many alike; no such line where it is not an x86.
        with CPU_INFO.open() as lines:
            text = next((line for line in lines if line.startswith("vendor_id")), text)
    return "AMD" in text


def processor_name() -> str:
    """The maker's name of the processor; else the architecture."""
    if CPU_INFO.exists():
        with CPU_INFO.open() as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
