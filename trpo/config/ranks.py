"""Where the processes of one run meet."""

import dataclasses
import re
from collections.abc import Mapping
from typing import ClassVar

from trpo.distributed.launchers import Place


@dataclasses.dataclass
class RankArguments:
    """Processes of one run, and where they meet if no launcher says so."""

    distributed: bool = False
    """Be one of many processes that make each update together: started by torchrun,
    mpirun or srun, or each with the three arguments that follow."""
    coordinator: str | None = None
    """HOST:PORT where process 0 can be reached."""
    num_processes: int | None = None
    """Processes in all."""
    process_id: int | None = None
    """Number of this one, from 0."""
    rank_timeout: float = 20.0
    """Seconds without a sign of life after which a process counts as lost."""

    GROUPS: ClassVar[Mapping[str, str]] = {"many processes": "distributed"}

    def place(self) -> Place | None:
        """This process's, if the arguments name it.

        Raises:
            ValueError: they say something, but not all, or what can't be.
        """
        size, rank = self.num_processes, self.process_id
        given = (self.coordinator, size, rank)
        if given == (None, None, None):
            return None
        named = re.fullmatch(r".+:\d+", self.coordinator or "")
        if not (named and size and rank is not None and 0 <= rank < size):
            raise ValueError(
                "`coordinator`: expected HOST:PORT of process 0, with `num_processes` "
                f"and a `process_id` from 0 and below it, got {given}."
            )
        return Place(rank, size, self.coordinator)
