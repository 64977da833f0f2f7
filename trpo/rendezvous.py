"""Where the processes of a run meet, as a launcher or a command line says."""

import os
from typing import NamedTuple

from trpo.common.validation import require_count
from trpo.launchers import launched, meet_by_mpi


LOCAL = ("localhost", "127.0.0.1")


class Rendezvous(NamedTuple):
    """The same for all processes but `rank`.

    Attributes:
        host: of the process of rank 0.
        port: there, that nothing else listens on.
        rank: of this process, from 0.
        size: processes.
    """

    host: str
    port: int
    rank: int
    size: int

    @property
    def is_local(self) -> bool:
        """Whether all processes are on one machine."""
        return self.host in LOCAL

    @classmethod
    def of_environment(cls) -> "Rendezvous | None":
        """The meeting that a launcher has set; None where nothing says it.

        That is MASTER_ADDR and MASTER_PORT, as torchrun sets them, or a user for any
        launcher; without them processes of an MPI meet by mpi4py.

        Raises:
            ValueError: an MPI has started this process, and mpi4py can't be used.
        """
        place = launched()
        host, port = (os.environ.get(f"MASTER_{name}") for name in ("ADDR", "PORT"))
        if place is None:
            return None
        if host and port:
            return cls(host, int(port), place.rank, place.size)
        if place.needs_mpi:
            return cls(*meet_by_mpi(place), place.rank, place.size)
        return None

    @classmethod
    def of_arguments(
        cls, coordinator: str | None, num_processes: int | None, process_id: int | None
    ) -> "Rendezvous | None":
        """The meeting that a command line names; None if it names none.

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
        host, _, port = coordinator.rpartition(":")
        if not (host and port.isdecimal()):
            raise ValueError(
                f"`coordinator`: expected HOST:PORT of process 0, got {coordinator!r}."
            )
        require_count("num_processes", num_processes)
        require_count("process_id", process_id, minimum=0)
        if process_id >= num_processes:
            raise ValueError(
                f"`process_id`: expected less than {num_processes}, got {process_id}."
            )
        return cls(host, int(port), process_id, num_processes)
