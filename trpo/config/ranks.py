"""Where the processes of one run meet."""

import dataclasses


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
