"""Environments in processes of this machine, and what other places of theirs share."""

import multiprocessing
import os
import selectors
import socket
import struct
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import gymnasium
from gymnasium.vector.utils import CloudpickleWrapper

from trpo.environment_worker import EnvironmentWorkerError, serve
from trpo.user_modules import safe_path


Maker = Callable[[], gymnasium.Env]


class Answer(NamedTuple):
    """What has come from a worker.

    Attributes:
        index: the worker's.
        ticket: of the request that it answers; 0 of its start, None if it has ended.
        error: what its environment raised.
        value: what was asked for; of a worker that has ended, how.
    """

    index: int
    ticket: int | None
    error: EnvironmentWorkerError | None
    value: Any


class Workers(Protocol):
    """Where environments live, each apart from the others; known by their index."""

    def start(self, index: int) -> None:
        """Start one; its first answer has its spaces."""
        ...

    def send(self, index: int, ticket: int, command: str, argument: Any) -> bool:
        """Ask for something; False if the worker has ended."""
        ...

    def receive(self, seconds: float) -> list[Answer]:
        """The answers that have come, at least one if any comes within `seconds`."""
        ...

    def end_of(self, index: int) -> str:
        """How a worker that has ended did so."""
        ...

    def living(self) -> list[int]:
        """Those that have been started and have not ended."""
        ...

    def end(self, index: int) -> None:
        """End one, whatever it does."""
        ...

    def close(self) -> None:
        """Give back what belongs to none of them; all have ended."""
        ...


class ProcessWorkers:
    """Each environment in a process of this machine.

    Args:
        makers: Make one environment each; picklable.
        timeout: Seconds after which no message to or from a worker goes on.
    """

    def __init__(self, makers: Sequence[Maker], timeout: float) -> None:
        methods = multiprocessing.get_all_start_methods()
        # Never forked from this process: JAX's threads would deadlock in a worker.
        method = "forkserver" if "forkserver" in methods else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        self._context.set_forkserver_preload(["trpo.environments"])
        self._makers = [CloudpickleWrapper(maker) for maker in makers]
        self._timeout = timeout
        self._selector = selectors.DefaultSelector()
        self._processes: list[Any] = [None] * len(makers)
        self._pipes: list[Any] = [None] * len(makers)

    def start(self, index: int) -> None:
        """See `Workers`."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve,
            args=(theirs, self._makers[index], index),
            daemon=True,
            name=f"environment-{index}",
        )
        with safe_path():
            process.start()
        theirs.close()
        _bound(ours, self._timeout)
        self._processes[index], self._pipes[index] = process, ours
        self._selector.register(ours, selectors.EVENT_READ, index)

    def send(self, index: int, ticket: int, command: str, argument: Any) -> bool:
        """See `Workers`."""
        try:
            self._pipes[index].send((ticket, command, argument))
        except OSError:
            return False
        return True

    def receive(self, seconds: float) -> list[Answer]:
        """See `Workers`."""
        ready = self._selector.select(max(0.0, seconds))
        return [self._received(key.data) for key, _ in ready]

    def _received(self, index: int) -> Answer:
        try:
            return Answer(index, *self._pipes[index].recv())
        except (EOFError, OSError):
            self._selector.unregister(self._pipes[index])
            return Answer(index, None, None, self.end_of(index))

    def end_of(self, index: int) -> str:
        """See `Workers`."""
        process = self._processes[index]
        process.join(1.0)
        code = process.exitcode
        how = f"was killed by signal {-code}" if code and code < 0 else "ended"
        return f"its process {how}"

    def living(self) -> list[int]:
        """See `Workers`."""
        return [i for i, p in enumerate(self._processes) if p and p.is_alive()]

    def pid(self, index: int) -> int:
        """Of a worker's process."""
        return self._processes[index].pid

    def end(self, index: int) -> None:
        """See `Workers`; its pipe is forgotten."""
        process, pipe = self._processes[index], self._pipes[index]
        if process is None:
            return
        process.kill()
        process.join()
        if pipe.fileno() in self._selector.get_map():
            self._selector.unregister(pipe)
        pipe.close()
        process.close()
        self._processes[index] = None

    def close(self) -> None:
        """See `Workers`."""
        self._selector.close()


def _bound(pipe: Connection, seconds: float) -> None:
    """Have no read or write of a pipe's socket wait longer than this.

    A worker may be stopped in the middle of a message.
    """
    bound = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6) + 1)
    with socket.socket(fileno=os.dup(pipe.fileno())) as handle:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)
