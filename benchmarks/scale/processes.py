"""Processes on this machine, as torchrun starts them."""

import os
import subprocess
import sys
from pathlib import Path

from trpo.launchers import free_port


ROOT = Path(__file__).resolve().parent.parent.parent


def settings(**variables: str) -> dict[str, str]:
    """The environment of a process, with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}


def start(command: list[str], size: int) -> list[subprocess.Popen]:
    """`size` processes of one command, which meet on this machine."""
    shared = {
        "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=settings(**shared, RANK=str(rank)),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip


def on_ranks(command: list[str], size: int) -> list[str]:
    """What each of `size` processes prints.

    Raises:
        RuntimeError: one failed.
    """
    processes = start(command, size)
    outcomes = [process.communicate(timeout=500) for process in processes]
    for process, (_, error) in zip(processes, outcomes, strict=True):
        if process.returncode:
            raise RuntimeError(error[-2000:])
    return [printed for printed, _ in outcomes]
