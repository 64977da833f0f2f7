"""Ranks as threads of this process, whose all-reduce is a sum at a barrier.

They show what an update on many ranks computes without starting processes;
`tests/distributed/test_distributed.py` shows that processes compute the same.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from trpo.distributed.ranks import Ranks


class ThreadGroup:
    """The threads of one run, which exchange data at a barrier.

    Args:
        size: Number of threads.
    """

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=600)
        self.parts: list[Any] = [None] * size
        self.rank = threading.local()

    def exchange(self, part: Any) -> list[Any]:
        """All threads' parts, in the order of ranks."""
        self.parts[self.rank.number] = part
        self.barrier.wait()
        parts = list(self.parts)
        self.barrier.wait()
        return parts


class ThreadRanks(Ranks):
    """One thread's rank in its group."""

    local = threading.local()
    """`local.ranks` is the running thread's own instance."""

    def __init__(self, rank: int, group: ThreadGroup) -> None:
        self.rank, self.size = rank, len(group.parts)
        self.group, self.parted = group, False

    def gather(self, arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """See `trpo.distributed.ranks.Alone`."""
        return self.group.exchange(dict(arrays))

    def broadcast(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Ranks`."""
        return self.gather(arrays)[0]

    def all_reduce(self, tensor: Any) -> None:
        """Sum over ranks in place, like `torch.distributed.all_reduce`."""
        total = sum(self.group.exchange(tensor.clone()))
        tensor.copy_(total)


def run_ranks(size: int, run: Callable[[ThreadRanks], Any]) -> list[Any]:
    """Call `run` on each of `size` ranks and return all results.

    Raises:
        Exception: the first that a rank raised, before those of a broken barrier.
    """
    group = ThreadGroup(size)

    def run_rank(rank: int) -> Any:
        group.rank.number = rank
        try:
            return run(ThreadRanks(rank, group))
        except BaseException:
            group.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run_rank, rank) for rank in range(size)]
    errors = [error for future in futures if (error := future.exception())]
    for error in sorted(
        errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)
    ):
        raise error
    return [future.result() for future in futures]
