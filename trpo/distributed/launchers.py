"""A process's place among those of its run, from variables that launchers set."""

import os
import re
import zlib
from typing import NamedTuple

from trpo.common.validation import require_count


class Launcher(NamedTuple):
    """Names of the variables that it sets; "" where it sets none.

    Attributes:
        rank: number of the process, from 0.
        size: processes in all.
        local_rank: number of the process among those of its machine.
        local_size: how many those are.
        job: name of the job, the same for all of its processes.
        restarts: how often it was started again.
    """

    rank: str
    size: str
    local_rank: str
    local_size: str
    job: str
    restarts: str = ""


# Slurm's are inherited by what starts others inside its jobs, so they count last.
LAUNCHERS = {
    "torchrun": Launcher(
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID",
        "TORCHELASTIC_RESTART_COUNT",
    ),
    "Open MPI": Launcher(
        "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE", "PMIX_NAMESPACE",
    ),
    "MPICH": Launcher("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", ""),
    "Slurm": Launcher(
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
        for launcher in LAUNCHERS.values():
            rank, size, local_rank, local_size, _, restarts = map(_number, launcher)
            if rank is not None and size is not None:
                break
        else:
            return None
        host, port = (os.environ.get(f"MASTER_{name}") for name in ("ADDR", "PORT"))
        given = f"{host}:{port}" if host and port else None
        return cls(
            rank,
            size,
            given or _made_up(launcher, local_size == size),
            given=given is not None,
            local_rank=None if local_size == 1 else local_rank,
            restarted=bool(restarts),
        )

    @classmethod
    def of_arguments(
        cls, coordinator: str | None, num_processes: int | None, process_id: int | None
    ) -> "Place | None":
        """The place that a command line names; None if it names none.

        Raises:
            ValueError: it says something, but not all, or what can't be.
        """
        options = {
            "coordinator": coordinator,
            "num_processes": num_processes,
            "process_id": process_id,
        }
        missing = [name for name, value in options.items() if value is None]
        if len(missing) == len(options):
            return None
        if coordinator is None or num_processes is None or process_id is None:
            raise ValueError(
                f"`{missing[0]}`: expected all of {', '.join(options)} or none of "
                "them, got some."
            )
        if not re.fullmatch(r".+:\d+", coordinator):
            raise ValueError(
                f"`coordinator`: expected HOST:PORT of process 0, got {coordinator!r}."
            )
        require_count("num_processes", num_processes)
        require_count("process_id", process_id, minimum=0)
        if process_id >= num_processes:
            raise ValueError(
                f"`process_id`: expected less than {num_processes}, got {process_id}."
            )
        return cls(process_id, num_processes, coordinator)


def _number(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else None


def _made_up(launcher: Launcher, one_machine: bool) -> str | None:
    """A coordinator that all processes of a job agree on, if that can be told.

    The port is one that systems give nobody by chance, and differs from job to job.
    """
    # MPICH names no job: its processes of one machine have one parent.
    job = os.environ.get(launcher.job) or str(os.getppid())
    nodes = os.environ.get("SLURM_STEP_NODELIST", "")
    # The first of node7, of node7,other and of node[07-12,15].
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    host = "127.0.0.1" if one_machine else first and "".join(first.groups(""))
    return f"{host}:{61440 + zlib.crc32(job.encode()) % 4096}" if host else None
