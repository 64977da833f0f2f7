"""Rank and size that a launcher tells each process, by variables or by MPI."""

import importlib.util
import os
import socket
import sys
from typing import NamedTuple


class Launcher(NamedTuple):
    """Names of the variables that it sets.

    Attributes:
        rank: number of the process, from 0.
        size: processes in all.
        local_rank: number of the process among those of its machine.
        local_size: how many those are; "" if it does not say so in one number.
        mpi: the MPI that it belongs to, if any.
    """

    rank: str
    size: str
    local_rank: str
    local_size: str
    mpi: str = ""


SRUN = Launcher("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "")
# Slurm's are inherited by what starts others inside its jobs, so they count last.
LAUNCHERS = (
    Launcher("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),  # torchrun
    Launcher(
        "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE", "Open MPI",
    ),
    Launcher("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS",
             "MPICH or Intel MPI"),
    SRUN,
)  # fmt: skip


class Place(NamedTuple):
    """A process among those that were launched together."""

    launcher: Launcher
    rank: int
    size: int

    @property
    def needs_mpi(self) -> bool:
        """Whether only MPI knows where the processes can meet.

        srun may set MPICH's variables too; where it did, Slurm's say where.
        """
        place = (str(self.rank), str(self.size))
        by_srun = tuple(os.environ.get(name) for name in SRUN[:2]) == place
        return bool(self.launcher.mpi) and not by_srun


def launched() -> Place | None:
    """This process's place; None if no launcher that is known has started it."""
    for launcher in LAUNCHERS:
        rank, size = (os.environ.get(name) for name in launcher[:2])
        if rank and size:
            return Place(launcher, int(rank), int(size))
    return None


def local_rank() -> int | None:
    """This process's number among those of its machine.

    None where it is the only one there, so that all of the machine's GPUs are its own,
    and where no launcher has said it.
    """
    if (place := launched()) is None:
        return None
    number, size = (os.environ.get(name) for name in place.launcher[2:4])
    return int(number) if number and size != "1" else None


def meet_by_mpi(place: Place) -> tuple[str, int]:
    """Host and free port of rank 0, which tells them to all others; all must call it.

    MPI is left again at once: from here on the framework's own engine counts, and MPI
    would end all processes where one is lost, before they have saved anything.

    Raises:
        ValueError: mpi4py is not installed, or is of another MPI than the launcher.
    """
    mpi = place.launcher.mpi
    otherwise = "or set MASTER_ADDR and MASTER_PORT for all processes."
    if importlib.util.find_spec("mpi4py") is None:
        raise ValueError(
            f"`distributed`: expected mpi4py, by which processes of {mpi} can meet, "
            f'found none: pip install "trpo[mpi]", {otherwise}'
        )
    import mpi4py

    started_here = "mpi4py.MPI" not in sys.modules
    if started_here:
        mpi4py.rc.finalize = False  # It would wait for all others as Python ends.
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    if (world.rank, world.size) != (place.rank, place.size):
        raise ValueError(
            f"`distributed`: expected mpi4py to be rank {place.rank} of {place.size}, "
            f"as {mpi} says, got {world.rank} of {world.size}: it uses "
            f"another MPI ({MPI.Get_library_version().splitlines()[0]}). Set "
            f"MPI4PY_LIBMPI to the launcher's library, {otherwise}"
        )
    hosts = world.allgather(socket.gethostname())
    host = hosts[0] if len(set(hosts)) > 1 else "127.0.0.1"
    port = world.bcast(free_port() if world.rank == 0 else None)
    if started_here:
        MPI.Finalize()
    return host, port


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]
