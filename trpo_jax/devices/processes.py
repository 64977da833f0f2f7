"""The processes of a run, on JAX's own engine: gloo on CPUs, NCCL on GPUs."""

import ctypes
import os
import signal
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from trpo.launchers import local_rank
from trpo.ranks import MEETING_BYTES, Alone, Ranks, this_host
from trpo.rendezvous import Rendezvous


# Set by who starts processes: found by JAX itself, which knows how to read them.
LAUNCHERS = (
    "SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "TPU_WORKER_HOSTNAMES",
    "KUBERNETES_SERVICE_HOST", "COORDINATOR_ADDRESS", "JAX_COORDINATOR_ADDRESS",
)  # fmt: skip
# The watch of ranks is faster; JAX ends the process, and what it was saving.
HEARTBEAT_SECONDS = 300


def start(device: str = "cpu", rendezvous: Rendezvous | None = None) -> Ranks:
    """Meet the other processes of this run; to be called first, by all of them.

    Args:
        device: Of this process, such as "cpu" or "cuda".
        rendezvous: Where they meet; by default what a launcher has put into the
            environment (`Rendezvous.of_environment`), or what `jax.distributed` finds
            itself (Slurm, Kubernetes, …).

    Raises:
        ValueError: nothing says where.
    """
    at = rendezvous or Rendezvous.of_environment()
    found = any(name in os.environ for name in LAUNCHERS)
    if at is None and not found:
        raise ValueError(
            "`distributed`: expected a launcher (torchrun, mpirun, srun, or another "
            "that JAX knows), or --coordinator, --num-processes and --process-id, got "
            "neither."
        )
    given: dict[str, Any] = {}
    if at is not None:
        given = {
            "coordinator_address": f"{at.host}:{at.port}",
            "num_processes": at.size,
            "process_id": at.rank,
            # Each process has a GPU of its own, as where JAX finds the launcher.
            "local_device_ids": local_rank(),
        }
    _delay_aborts()
    jax.distributed.initialize(**given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)

    def broadcast(message: bytes) -> bytes:
        buffer = np.frombuffer(message.ljust(MEETING_BYTES), dtype=np.uint8)
        return bytes(np.asarray(multihost_utils.broadcast_one_to_all(buffer))).rstrip()

    host = at.host if at is not None and at.is_local else this_host()
    return Ranks(jax.process_index(), jax.process_count(), broadcast, host)


def _delay_aborts() -> None:
    """Give the watch of ranks time to save before JAX ends this process.

    Where process 0 is lost, its coordination service is, and JAX aborts all others at
    once. The handler is C's sleep, which takes the signal's number, 6, for seconds; the
    thread that aborts waits so long, the others work on.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


def local_device(device: str) -> str:
    """The device of this process among those of its machine."""
    return device


def devices_of(device: Any, ranks: Alone, devices: Sequence[Any]) -> list[Any]:
    """Devices on which a process of these ranks computes sharded updates.

    Those asked for; else, of many processes, all of the device's kind that this one
    has, and of one the device.
    """
    if devices:
        return list(devices)
    alone = ranks.size == 1
    return [device] if alone else jax.local_devices(backend=device.platform)


def stop() -> None:
    """Part from the other processes."""
    jax.distributed.shutdown()
