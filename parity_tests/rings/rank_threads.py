"""Ranks as threads of this process, whose all-reduce is a sum at a barrier.

What an update of many ranks computes is then tested without starting any process; that
processes compute the same is tested in `tests/distributed/test_distributed.py`.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from trpo.ranks import Ranks


class Meeting:
    """Where the threads of one run meet.

    Args:
        size: Threads.
    """

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=600)
        self.parts: list[Any] = [None] * size
        self.rank = threading.local()

    def exchange(self, part: Any) -> list[Any]:
        """All threads' parts, in the order of ranks."""
        self.parts[self.rank.number] = part
        self.barrier.wait()
        everything = list(self.parts)
        self.barrier.wait()
        return everything


class ThreadRanks(Ranks):
    """One of the threads and the others."""

    local = threading.local()
    """`ranks` of it is the thread's own."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.size = rank, len(meeting.parts)
        self.meeting = meeting

    def gather(self, arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """See `trpo.ranks.Alone`."""
        return self.meeting.exchange(dict(arrays))

    def all_reduce(self, tensor: Any) -> None:
        """Sum over ranks in place, like `torch.distributed.all_reduce`."""
        total = sum(self.meeting.exchange(tensor.clone()))
        tensor.copy_(total)


def run_ranks(size: int, run: Callable[[ThreadRanks], Any]) -> list[Any]:
    """Call `run` on each of `size` ranks and return all results.

    Raises:
        Exception: the first that a rank raised.
    """
    meeting = Meeting(size)

    def of_rank(rank: int) -> Any:
        meeting.rank.number = rank
        try:
            return run(ThreadRanks(rank, meeting))
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(of_rank, rank) for rank in range(size)]
    errors = [error for future in futures if (error := future.exception())]
    for error in sorted(
        errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)
    ):
        raise error
    return [future.result() for future in futures]
