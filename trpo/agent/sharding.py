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
        everyone: each process's samples [n], by their numbers among all.
        rank: of this process.
    """

    everyone: tuple[np.ndarray, ...]
    rank: int

    @property
    def numbers(self) -> np.ndarray:
        """[n] of this process's samples among all."""
        return self.everyone[self.rank]

    @property
    def total(self) -> int:
        """Samples in all."""
        return sum(map(len, self.everyone))

    def room(self, devices: int, every: int = 1) -> int:
        """Rows of each process in which it has its samples, as `slots` has them.

        Args:
            devices: Of each process, which share its rows evenly.
            every: See `slots`.
        """
        chosen = [int((numbers % every == 0).sum()) for numbers in self.everyone]
        others = [
            len(numbers) - k for numbers, k in zip(self.everyone, chosen, strict=True)
        ]
        needed = -(-max(chosen) // devices)
        if every > 1:
            needed = max(needed, -(-max(others) // (devices * (every - 1))))
        return needed * devices * every

    def slots(self, rank: int, every: int = 1) -> np.ndarray:
        """[n] row of each of a process's samples, among its own.

        Args:
            rank: Of the process.
            every: Each sample whose number is a multiple of it has a row that is one,
                and no other has.
        """
        numbers = self.everyone[rank]
        chosen = numbers % every == 0
        slots = np.empty(len(numbers), np.int32)
        slots[chosen] = every * np.arange(chosen.sum())
        # Of k - 1 others between two of them.
        others = np.arange((~chosen).sum())
        between = max(1, every - 1)
        slots[~chosen] = others // between * every + others % between + 1
        return slots

    def positions(self, room: int, every: int = 1) -> np.ndarray:
        """[total] row of each sample in one array of all processes' samples.

        Args:
            room: Rows of each process.
            every: See `slots`.
        """
        positions = np.empty(self.total, np.int32)
        for rank, numbers in enumerate(self.everyone):
            positions[numbers] = rank * room + self.slots(rank, every)
        return positions


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


class Environments(NamedTuple):
    """One process's environments of those that a recurrent critic is fitted to.

    Attributes:
        orders: [epochs, B] order in which each epoch visits all of them.
        here: [B] place among this process's; -1 where another has it.
        samples: [B] of each.
    """

    orders: np.ndarray
    here: np.ndarray
    samples: np.ndarray


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
        own = {"size": np.array(size)} | ({} if rows is None else {"rows": rows})
        everyone, total = [], 0
        for part in self.ranks.gather(own):
            in_turn = total + np.arange(int(part["size"]))
            everyone.append(part.get("rows", in_turn))
            total += len(in_turn)
        return Shards(tuple(everyone), self.ranks.rank)

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
        fullest = _fullest(shards, orders, minibatch_size)
        step = max(1, minibatch_size // 8)
        width = min(-(-fullest // step) * step, members.shape[-1])
        counts = _counts(orders.shape[1], members.shape[1], minibatch_size)
        return _packed(members, width, counts)

    def minibatches_of_environments(
        self, shards: Shards, orders: np.ndarray, samples: np.ndarray
    ) -> Environments:
        """What this process has of each minibatch of whole environments.

        Args:
            shards: The environments of this update.
            orders: [epochs, total] order in which each epoch visits all of them.
            samples: [n] of each of this process's.
        """
        here, everyone = np.full(shards.total, -1), np.zeros(shards.total)
        here[shards.numbers] = np.arange(len(samples))
        parts = self.ranks.gather({"samples": samples})
        for numbers, part in zip(shards.everyone, parts, strict=True):
            everyone[numbers] = part["samples"]
        return Environments(orders, here, everyone)


def _fullest(shards: Shards, orders: np.ndarray, minibatch_size: int) -> int:
    """The most samples of a minibatch that one process has."""
    owner = np.empty(shards.total, np.int64)
    for rank, numbers in enumerate(shards.everyone):
        owner[numbers] = rank
    epochs, total = orders.shape
    step = np.arange(total) // minibatch_size
    of = (np.arange(epochs)[:, None] * (step[-1] + 1) + step) * len(shards.everyone)
    return int(np.bincount((of + owner[orders]).ravel()).max())


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
