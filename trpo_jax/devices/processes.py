"""The processes of a run, on JAX's own engine: gloo on CPUs, NCCL on GPUs."""

import os
import socket
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from trpo.distributed.launchers import Place
from trpo.distributed.lost import end_process
from trpo.distributed.ranks import Alone, Ranks


# Set by who starts processes: found by JAX itself, which knows how to read them.
FOUND_BY_JAX = (
    "SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "TPU_WORKER_HOSTNAMES",
    "KUBERNETES_SERVICE_HOST", "COORDINATOR_ADDRESS", "JAX_COORDINATOR_ADDRESS",
)  # fmt: skip


class ProcessRanks(Ranks):
    """This process and the others.

    JAX's service notices a process that is killed or stopped, and ends the others: of
    rank 0, which has the service, at once, of another after `timeout`.

    Args:
        timeout: Seconds without a sign of life after which JAX ends the others.
        coordinator: HOST:PORT of rank 0; None if JAX itself has found it.
    """

    def __init__(self, timeout: float, coordinator: str | None) -> None:
        super().__init__(
            jax.process_index(),
            jax.process_count(),
            lambda message: np.array(multihost_utils.process_allgather(message)),
            lambda message: np.array(multihost_utils.broadcast_one_to_all(message)),
        )
        self._timeout, self._coordinator = timeout, coordinator

    def name_lost(self) -> None:
        """See `Ranks`; JAX names a number of "unhealthy tasks", which are ranks."""
        if self._coordinator is not None and self.rank:
            host, _, port = self._coordinator.rpartition(":")
            try:
                socket.create_connection((host, int(port)), timeout=5.0).close()
            except OSError as error:
                end_process(f"rank {self.rank}: lost rank 0: {error}")
        time.sleep(self._timeout + 10.0)

    def close(self) -> None:
        """See `Ranks`."""
        jax.distributed.shutdown()
        super().close()


def start(
    device: str = "cpu", place: Place | None = None, timeout: float = 20.0
) -> Ranks:
    """Meet the other processes of this run; to be called first, by all of them.

    Args:
        device: Of this process, such as "cpu" or "cuda".
        place: This process's, by default as somebody has named it in the environment,
            as `jax.distributed` finds it itself (Slurm, Open MPI 4, Kubernetes, …), or
            as its launcher says.
        timeout: Seconds without a sign of life after which a process counts as lost.

    Raises:
        ValueError: nothing says where they meet.
    """
    at = place or Place.of_launcher()
    found = any(name in os.environ for name in FOUND_BY_JAX)
    if at is not None and (at.coordinator is None or (found and not at.given)):
        at = None
    if at is None and not found:
        raise ValueError(
            "`distributed`: expected a launcher (mpirun, srun, torchrun, or another "
            "that JAX knows), with MASTER_ADDR and MASTER_PORT where mpirun uses "
            "several machines, or --coordinator, --num-processes and --process-id, got "
            "neither."
        )
    given: dict[str, Any] = {}
    if at is not None:
        given = {
            "coordinator_address": at.coordinator,
            "num_processes": at.size,
            "process_id": at.rank,
            # Each process has a GPU of its own, as where JAX finds the launcher.
            "local_device_ids": at.local_rank,
        }
    jax.distributed.initialize(**given, heartbeat_timeout_seconds=max(1, int(timeout)))
    return ProcessRanks(timeout, None if at is None else at.coordinator)


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
