"""A process's place among those of its run, from variables that launchers set."""

import os
import re
import zlib
from typing import NamedTuple


# Variables of each: rank and size; both among the processes of its machine; the job's
# name, which MPICH lacks; how often the job was started again. Slurm's are inherited by
# what starts others inside its jobs, so they count last.
LAUNCHERS = {
    "torchrun": (
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID",
        "TORCHELASTIC_RESTART_COUNT",
    ),
    "Open MPI": (
        "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE", "PMIX_NAMESPACE", "",
    ),
    "MPICH": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "", ""),
    "Slurm": (
        "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "", "SLURM_JOB_ID",
        "SLURM_RESTART_COUNT",
    ),
}  # fmt: skip


class Place(NamedTuple):
    """A process among those that were launched together.

    Attributes:
        rank: its number, from 0.
        size: how many they are.
        coordinator: HOST:PORT of rank 0, on which nothing else listens; None if
            nothing says it.
        given: whether somebody has named the coordinator; else it was made up of what
            the launcher says of its job.
        local_rank: its number among those of its machine; None where it is the only
            one there, so that all GPUs are its own, and where nothing says it.
        restarted: whether the launcher has started the job again.
    """

    rank: int
    size: int
    coordinator: str | None
    given: bool = True
    local_rank: int | None = None
    restarted: bool = False

    @classmethod
    def of_launcher(cls) -> "Place | None":
        """What the environment says; None if no known launcher started this process.

        MASTER_ADDR and MASTER_PORT name the coordinator, as torchrun sets them, or a
        user for any launcher.
        """
        for names in LAUNCHERS.values():
            rank, size, local_rank, local_size, _, restarts = map(_number, names)
            if rank is not None and size is not None:
                break
        else:
            return None
        host, port = (os.environ.get(f"MASTER_{name}") for name in ("ADDR", "PORT"))
        given = f"{host}:{port}" if host and port else None
        coordinator = given or _made_up(names[4], local_size == size)
        # Alone on its machine it has all of the GPUs.
        own = None if local_size == 1 else local_rank
        return cls(rank, size, coordinator, given is not None, own, bool(restarts))


def _number(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else None


def _made_up(job: str, one_machine: bool) -> str | None:
    """A coordinator that all processes of a job agree on, if that can be told.

    The port is one that systems give nobody by chance, and differs from job to job.
    """
    # Processes of MPICH on one machine have one parent.
    name = os.environ.get(job) or str(os.getppid())
    nodes = os.environ.get("SLURM_STEP_NODELIST", "")
    # The first of node7, of node7,other and of node[07-12,15].
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    host = "127.0.0.1" if one_machine else first and "".join(first.groups(""))
    return f"{host}:{61440 + zlib.crc32(name.encode()) % 4096}" if host else None
