"""The processes of one run, its ranks, and what they tell each other on the host.

The update's own sums are the framework's all-reduces; here are small NumPy arrays, such
as the moments of advantages, in float64 on every framework: they travel as bytes, by
the framework's own collectives. Nothing is pickled.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import safetensors.numpy


Arrays = Mapping[str, np.ndarray]
Collective = Callable[[np.ndarray], np.ndarray]
# Of a message, that all ranks know how long it is; most fit into it whole.
HEAD_BYTES, LENGTH_BYTES = 4096, 8


class Alone:
    """The one process of a run that is not distributed."""

    rank: int = 0
    size: int = 1

    def gather(self, arrays: Arrays) -> list[dict[str, np.ndarray]]:
        """Arrays of every rank, in the order of ranks; all ranks must call it."""
        return [dict(arrays)]

    def mean(self, values: np.ndarray) -> float:
        """Mean over all ranks' numbers: their sum over their count."""
        return float(values.mean())

    def largest(self, value: float) -> float:
        """The largest of all ranks' numbers."""
        return float(value)


ALONE = Alone()


class Ranks(Alone):
    """This process and the others.

    Args:
        rank: Of this process, from 0.
        size: Processes.
        all_gather: Bytes [n] of each rank, as many on each -> all of them [size, n].
        broadcast: Bytes [n] of rank 0, on the others any [n] -> rank 0's.
    """

    def __init__(
        self, rank: int, size: int, all_gather: Collective, broadcast: Collective
    ) -> None:
        self.rank, self.size = rank, size
        self._all_gather, self._broadcast = all_gather, broadcast
        self.parted = False

    def gather(self, arrays: Arrays) -> list[dict[str, np.ndarray]]:
        """See `Alone.gather`."""
        message = _encoded(arrays)
        heads = self._all_gather(_filled(message, HEAD_BYTES))
        rest = _room(max(map(_length, heads)) - HEAD_BYTES)
        if rest:
            tails = self._all_gather(_filled(message[HEAD_BYTES:], rest))
            heads = np.concatenate([heads, tails], axis=1)
        return [_decoded(one) for one in heads]

    def broadcast(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Rank 0's arrays, on every rank; all must call it."""
        message = _encoded(arrays)
        head = self._broadcast(_filled(message, HEAD_BYTES))
        rest = _room(_length(head) - HEAD_BYTES)
        if rest:
            tail = self._broadcast(_filled(message[HEAD_BYTES:], rest))
            head = np.concatenate([head, tail])
        return _decoded(head)

    def mean(self, values: np.ndarray) -> float:
        """See `Alone.mean`; 0 of no numbers."""
        part = np.array([values.sum(dtype=np.float64), values.size])
        total, count = np.sum([each["part"] for each in self.gather({"part": part})], 0)
        return float(total / max(count, 1.0))

    def largest(self, value: float) -> float:
        """See `Alone.largest`."""
        parts = self.gather({"part": np.array(value, dtype=np.float64)})
        return float(max(each["part"] for each in parts))

    def name_lost(self) -> None:
        """End this process, and say which rank was lost; returns if none was."""

    def fail(self, reason: str) -> None:
        """Have the others know that this rank can't go on."""

    def close(self) -> None:
        """Part from the others in peace; all must call it."""
        self.parted = True


def share_of(count: int, rank: int, size: int) -> slice:
    """Which of `count` things a rank has: as even as can be, the first have more.

    Raises:
        ValueError: a rank would have none.
    """
    if count < size:
        raise ValueError(
            f"`num_envs`: expected one for each of {size} processes at least, got "
            f"{count}."
        )
    each, more = divmod(count, size)
    return slice(*(i * each + min(i, more) for i in (rank, rank + 1)))


def concatenated(parts: Sequence[Arrays], name: str) -> np.ndarray:
    """An array of each rank, one after the other."""
    return np.concatenate([part[name] for part in parts])


def _encoded(arrays: Arrays) -> np.ndarray:
    content = safetensors.numpy.save(
        {name: np.array(array, order="C") for name, array in arrays.items()}
    )
    length = (LENGTH_BYTES + len(content)).to_bytes(LENGTH_BYTES, "little")
    return np.frombuffer(length + content, dtype=np.uint8)


def _decoded(message: np.ndarray) -> dict[str, np.ndarray]:
    return safetensors.numpy.load(message[LENGTH_BYTES : _length(message)].tobytes())


def _length(message: np.ndarray) -> int:
    return int.from_bytes(message[:LENGTH_BYTES].tobytes(), "little")


def _room(count: int) -> int:
    """The power of two above, of which there are few: JAX compiles for each."""
    return 1 << (count - 1).bit_length() if count > 0 else 0


def _filled(message: np.ndarray, count: int) -> np.ndarray:
    """The message's first `count` bytes, filled up."""
    filled = np.zeros(count, dtype=np.uint8)
    filled[: len(message)] = message[:count]
    return filled
