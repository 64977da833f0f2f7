"""Which samples of an update each device has: the host's half of a sharded update.

All devices together make the update that one would make of all samples. So each of the
critic's minibatches is the one that it would be there: its members are wherever they
are, every device works on those that it has, and their number differs.
"""

from typing import Any, NamedTuple

import numpy as np

from trpo.ranks import ALONE, Alone, share_of


class Shards(NamedTuple):
    """One update's samples, on all devices.

    Attributes:
        total: samples in all.
        rows: of each device of this process, [n] numbers of its samples among all.
        longest: samples of the device that has most, in any process.
        processes: that the samples are in.
    """

    total: int
    rows: list[np.ndarray]
    longest: int
    processes: int


class Minibatches(NamedTuple):
    """One device's samples of each minibatch of the critic's fit; a tree of arrays.

    Attributes:
        indices: [epochs, steps, k] of its own samples; where it has fewer than k of a
            minibatch's, what fills up is 0.
        weights: [epochs, steps, k, 1] 1 / m of m members on all devices; 0 where filled
            up.
    """

    indices: Any
    weights: Any


class Sharding:
    """How an agent's updates are divided.

    Args:
        ranks: This process and the others.
        devices: Devices of each process.
        num_envs: Environments of all ranks, of which each acts in its own; None if the
            agent's actions are no part of a run.
    """

    environments: tuple[int, slice] | None = None
    """How many there are, and which are this rank's."""

    def __init__(
        self, ranks: Alone = ALONE, devices: int = 1, num_envs: int | None = None
    ) -> None:
        self.ranks, self.devices = ranks, devices
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
        # As `np.array_split` does.
        longest = max(-(-count // self.devices) for count in sizes)
        devices = np.array_split(rows, self.devices)
        return Shards(sum(sizes), devices, longest, len(sizes))

    def minibatches(
        self, shards: Shards, orders: np.ndarray, minibatch_size: int
    ) -> list[Minibatches]:
        """The minibatches of a process that has no memory, of each of its devices.

        Args:
            shards: Of this update.
            orders: [epochs, total] order in which each epoch visits all samples.
            minibatch_size: Samples of a minibatch, on all devices; an epoch's last
                takes the rest. 0: all of them.
        """
        minibatch_size = min(minibatch_size or shards.total, shards.total)
        members = [_own(rows, orders, minibatch_size) for rows in shards.rows]
        fullest = max(int((part >= 0).sum(-1).max(initial=1)) for part in members)
        fullest = int(self.ranks.largest(fullest))
        # A few sizes only: each is compiled once.
        step = max(1, minibatch_size // 8)
        width = min(-(-fullest // step) * step, members[0].shape[-1])
        counts = _counts(orders.shape[1], members[0].shape[1], minibatch_size)
        return [_packed(part, width, counts) for part in members]


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
