"""The processes of one run, its ranks, and what they tell each other on the host.

The update's own sums are the framework's all-reduces; here are small NumPy arrays, such
as the moments of advantages, in float64 on every framework. Each rank has a connection
to rank 0, authenticated by a key that the framework has brought; nothing is pickled.
"""

import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Client, Connection, Listener
from typing import NamedTuple

import numpy as np
import safetensors.numpy


Arrays = Mapping[str, np.ndarray]


class Meeting(NamedTuple):
    """Where ranks meet.

    Attributes:
        host: of rank 0.
        port: there.
        key: that a connection is authenticated by.
    """

    host: str
    port: int
    key: bytes

    def encoded(self) -> bytes:
        """The meeting in fewer than `MEETING_BYTES` bytes."""
        return f"{self.host} {self.port} {self.key.hex()}".encode()

    @classmethod
    def decoded(cls, message: bytes) -> "Meeting":
        """Inverse of `encoded`."""
        host, port, key = message.decode().split()
        return cls(host, int(port), bytes.fromhex(key))


MEETING_BYTES = 512


class LostRankError(RuntimeError):
    """The connection to another rank has ended; who is lost, the watch says."""


class Alone:
    """The one process of a run that is not distributed."""

    rank, size = 0, 1

    def gather(self, arrays: Arrays) -> list[dict[str, np.ndarray]]:
        """Arrays of every rank, in the order of ranks; all ranks must call it."""
        return [dict(arrays)]

    def mean(self, values: np.ndarray) -> float:
        """Mean over all ranks' numbers: their sum over their count."""
        return float(values.mean())

    def largest(self, value: float) -> float:
        """The largest of all ranks' numbers."""
        return float(value)

    def close(self) -> None:
        """Part from the others in peace."""


ALONE = Alone()


class Ranks(Alone):
    """This process and the others.

    Args:
        rank: Of this process, from 0.
        size: Processes.
        broadcast: Rank 0's bytes -> the same, on each rank; the framework's.
        host: Name of this machine for the others, if this is rank 0.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        broadcast: Callable[[bytes], bytes],
        host: str = "127.0.0.1",
    ) -> None:
        self.rank, self.size = rank, size
        # Of each other rank that this one talks to: for arrays, and for signs of life.
        self._data: dict[int, Connection] = {}
        self.beats: dict[int, Connection] = {}
        if rank == 0:
            self._listen(broadcast, host)
        else:
            self._join(Meeting.decoded(broadcast(b"")))

    def _listen(self, broadcast: Callable[[bytes], bytes], host: str) -> None:
        key = secrets.token_bytes(32)
        address = "127.0.0.1" if host in ("127.0.0.1", "localhost") else "0.0.0.0"
        with Listener((address, 0), backlog=2 * self.size, authkey=key) as listener:
            port = int(listener.address[1])
            broadcast(Meeting(host, port, key).encoded())
            for _ in range(2 * (self.size - 1)):
                connection = listener.accept()
                kind, other = connection.recv_bytes(64).split()
                table = self.beats if kind == b"beats" else self._data
                table[int(other)] = connection

    def _join(self, at: Meeting) -> None:
        for kind, table in ((b"data", self._data), (b"beats", self.beats)):
            table[0] = Client((at.host, at.port), authkey=at.key)
            table[0].send_bytes(b"%s %d" % (kind, self.rank))

    def gather(self, arrays: Arrays) -> list[dict[str, np.ndarray]]:
        """See `Alone.gather`."""
        packed = _encoded(arrays)
        if self.rank:
            self._send(0, packed)
            return [_decoded(self._receive(0)) for _ in range(self.size)]
        messages = [packed, *map(self._receive, range(1, self.size))]
        for rank in range(1, self.size):
            for message in messages:
                self._send(rank, message)
        return [_decoded(message) for message in messages]

    def tell(self, arrays: Arrays) -> None:
        """Rank 0: send the others what they `hear`."""
        message = _encoded(arrays)
        for rank in range(1, self.size):
            self._send(rank, message)

    def hear(self) -> dict[str, np.ndarray]:
        """Other ranks: what rank 0 tells."""
        return _decoded(self._receive(0))

    def mean(self, values: np.ndarray) -> float:
        """See `Alone.mean`; 0 of no numbers."""
        part = np.array([values.sum(dtype=np.float64), values.size])
        total, count = np.sum([each["part"] for each in self.gather({"part": part})], 0)
        return float(total / max(count, 1.0))

    def largest(self, value: float) -> float:
        """See `Alone.largest`."""
        parts = self.gather({"part": np.array(value, dtype=np.float64)})
        return float(max(each["part"] for each in parts))

    def _send(self, rank: int, message: bytes) -> None:
        try:
            self._data[rank].send_bytes(message)
        except OSError as error:
            raise LostRankError(f"can't send to rank {rank}: {error}") from error

    def _receive(self, rank: int) -> bytes:
        try:
            return self._data[rank].recv_bytes()
        except (EOFError, OSError) as error:
            raise LostRankError(f"can't hear rank {rank}: {error}") from error

    def close(self) -> None:
        """Close all connections."""
        for connection in (*self._data.values(), *self.beats.values()):
            connection.close()


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


def this_host() -> str:
    """The name by which other machines find this one."""
    name = socket.gethostname()
    try:
        return socket.gethostbyname(name)
    except OSError:
        return "127.0.0.1"


def _encoded(arrays: Arrays) -> bytes:
    return safetensors.numpy.save(
        {name: np.array(array, order="C") for name, array in arrays.items()}
    )


def _decoded(message: bytes) -> dict[str, np.ndarray]:
    return safetensors.numpy.load(message)
