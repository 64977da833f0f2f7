"""Which samples of an update each device has: the host's half of a sharded update.

All devices together make the update that one would make of all samples. So each of the
critic's minibatches is the one that it would be there: its members are wherever they
are, every device works on those that it has, and their number differs.
"""

from typing import NamedTuple

import numpy as np

from trpo.distributed.ranks import ALONE, Alone, share_of


class Shards(NamedTuple):
    """One update's samples, on all devices.

    Attributes:
        total: samples in all.
        numbers: [n] of this process's samples among all.
        processes: that the samples are in.
    """

    total: int
    numbers: np.ndarray
    processes: int


class Minibatches(NamedTuple):
    """One process's samples of each minibatch of the critic's fit.

    Attributes:
        indices: [epochs, steps, k] of its own samples; where it has fewer than k of a
            minibatch's, what fills up is 0.
        weights: [epochs, steps, k, 1] 1 / m of m members on all devices; 0 where filled
            up.
    """

    indices: np.ndarray
    weights: np.ndarray


class Sharding:
    """How an agent's updates are divided.

    Args:
        ranks: This process and the others.
        num_envs: Environments of all ranks, of which each acts in its own; None if the
            agent's actions are no part of a run.
    """

    environments: tuple[int, slice] | None = None
    """How many there are, and which are this rank's."""

    def __init__(self, ranks: Alone = ALONE, num_envs: int | None = None) -> None:
        self.ranks = ranks
        if num_envs is not None:
            share = share_of(num_envs, ranks.rank, ranks.size)
            self.environments = (num_envs, share)

    def divide(self, size: int, rows: np.ndarray | None = None) -> Shards:
        """The shards of an update to which this process brings `size` samples.

        Args:
            size: Samples of this process.
            rows: [size] number of each among those of all processes, from 0; by
                default they are numbered in the order of ranks.

        Raises:
            ValueError: `rows` has another length.
        """
        if rows is not None and len(rows) != size:
            raise ValueError(f"`rows`: expected {size} numbers, got {len(rows)}.")
        parts = self.ranks.gather({"size": np.array(size)})
        sizes = [int(part["size"]) for part in parts]
        if rows is None:
            rows = sum(sizes[: self.ranks.rank]) + np.arange(size)
        return Shards(sum(sizes), rows, len(sizes))

    def minibatches(
        self, shards: Shards, orders: np.ndarray, minibatch_size: int
    ) -> Minibatches:
        """What this process has of each minibatch.

        Args:
            shards: Of this update.
            orders: [epochs, total] order in which each epoch visits all samples.
            minibatch_size: Samples of a minibatch, on all devices; an epoch's last
                takes the rest. 0: all of them.
        """
        minibatch_size = min(minibatch_size or shards.total, shards.total)
        members = _own(shards.numbers, orders, minibatch_size)
        fullest = int(self.ranks.largest((members >= 0).sum(-1).max(initial=1)))
        step = max(1, minibatch_size // 8)
        width = min(-(-fullest // step) * step, members.shape[-1])
        counts = _counts(orders.shape[1], members.shape[1], minibatch_size)
        return _packed(members, width, counts)

    def positions(self, shards: Shards, length: int) -> np.ndarray:
        """[total] row of each sample in one array of all processes' samples.

        Args:
            shards: Of this update.
            length: Rows of each process, its own and those that fill up.
        """
        positions = np.empty(shards.total, np.int32)
        parts = self.ranks.gather({"numbers": shards.numbers})
        for rank, part in enumerate(parts):
            numbers = part["numbers"]
            positions[numbers] = rank * length + np.arange(len(numbers))
        return positions


def _own(rows: np.ndarray, orders: np.ndarray, minibatch_size: int) -> np.ndarray:
    """[epochs, steps, m] index of each member on this device, -1 if it is not here."""
    epochs, total = orders.shape
    index = np.full(total + 1, -1, dtype=np.int32)
    index[rows] = np.arange(len(rows), dtype=np.int32)
    steps = -(-total // minibatch_size)
    # What the last step lacks is nobody's.
    filled = np.full((epochs, steps * minibatch_size), total)
    filled[:, :total] = orders
    return index[filled].reshape(epochs, steps, minibatch_size)


def _counts(total: int, steps: int, minibatch_size: int) -> np.ndarray:
    """[steps] members of each minibatch on all devices."""
    starts = np.arange(steps) * minibatch_size
    return np.minimum(minibatch_size, total - starts)


def _packed(members: np.ndarray, width: int, counts: np.ndarray) -> Minibatches:
    """The members that are here first, and as many of them as any device has."""
    order = np.argsort(members < 0, axis=-1, kind="stable")[..., :width]
    indices = np.take_along_axis(members, order, -1)
    weights = (indices >= 0) / counts[:, None]
    return Minibatches(np.maximum(indices, 0), weights[..., None])
