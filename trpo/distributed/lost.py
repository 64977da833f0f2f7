"""What a process does whose run has lost another one."""

import os
import re
import sys
from typing import NoReturn


# Exit status of a rank that has lost another: "temporary failure; try again".
LOST_RANK = os.EX_TEMPFAIL
_OF_COLLECTIVES = re.compile("gloo|nccl", re.IGNORECASE)


def is_lost_connection(error: BaseException) -> bool:
    """Whether it is a collective that failed, so that it tells of another rank."""
    return bool(_OF_COLLECTIVES.search(str(error)))


def end_process(message: str, status: int = LOST_RANK) -> NoReturn:
    """Print, and end this process past all that may wait for the lost rank.

    Nothing is saved: the others' part of the run is lost, and the last checkpoint, of
    which each file was written whole, has all of it.
    """
    # Not at once: `import trpo_torch` prints nothing.
    from trpo.common.terminal import SafeStream, Terminal

    Terminal(stderr=True).error(message)
    SafeStream.of(sys.stdout).flush()
    os._exit(status)
