"""Environments in processes of this machine, and what other places of theirs share."""

import atexit
import multiprocessing
import os
import selectors
import socket
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import gymnasium
from gymnasium.vector.utils import CloudpickleWrapper

from trpo.common.signals import unsignalled
from trpo.common.user_modules import safe_path
from trpo.environments.environment_worker import EnvironmentWorkerError, serve


Maker = Callable[[], gymnasium.Env]
CLOSE_SECONDS = 1.0
"""Seconds that workers have to close their environments, before they are killed."""


GUARD = (
    "A script that starts processes has to do so under `if __name__ == '__main__':`, "
    "as each of them imports it"
)


class Answer(NamedTuple):
    """A worker's answer to a request, or news that it has started or ended.

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
        """Indices of the workers that have been started and have not ended."""
        ...

    def end(self, index: int) -> None:
        """End one, whatever it does."""
        ...

    def close(self) -> None:
        """End those that are left, and give back what belongs to none of them."""
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
        self._context.set_forkserver_preload(["trpo.environments.make"])
        self._makers = [CloudpickleWrapper(maker) for maker in makers]
        self._timeout = timeout
        self._selector = selectors.DefaultSelector()
        self._processes: list[Any] = [None] * len(makers)
        self._pipes: list[Any] = [None] * len(makers)
        self._lives: list[Any] = [None] * len(makers)
        self._began: set[int] = set()
        _open.add(self)
        _require_main()

    def start(self, index: int) -> None:
        """See `Workers`."""
        self._pipes[index], theirs = self._context.Pipe()
        life, self._lives[index] = self._context.Pipe(duplex=False)
        _bound(self._pipes[index], self._timeout)
        # Known before it starts: an interrupt may come as it does.
        process = self._processes[index] = self._context.Process(
            target=serve,
            args=(theirs, life, self._makers[index], index),
            daemon=True,
            name=f"environment-{index}",
        )
        with _STARTING, safe_path(), unsignalled():
            process.start()
        theirs.close()
        life.close()
        self._selector.register(self._pipes[index], selectors.EVENT_READ, index)

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
            answer = Answer(index, *self._pipes[index].recv())
            self._began.add(index)
            return answer
        except (EOFError, OSError):
            self._selector.unregister(self._pipes[index])
            return Answer(index, None, None, self.end_of(index))

    def end_of(self, index: int) -> str:
        """See `Workers`."""
        process = self._processes[index]
        if process is None:
            return "it belongs to the process that this one was forked from"
        process.join(1.0)
        code = process.exitcode
        how = f"was killed by signal {-code}" if code and code < 0 else "ended"
        if code == 1 and index not in self._began:
            # It says why on standard error.
            how = f"ended as it imported the program. {GUARD}"
        return f"its process {how}"

    def living(self) -> list[int]:
        """See `Workers`."""
        # Not `is_alive`: so says the fork server, which a signal may have ended.
        return [i for i, process in enumerate(self._processes) if process]

    def pid(self, index: int) -> int:
        """Process id of a worker."""
        return self._processes[index].pid

    def end(self, index: int) -> None:
        """See `Workers`; its pipe is forgotten."""
        process = self._processes[index]
        if process is None:
            return
        if process.pid is not None:
            process.kill()
            process.join()
        self._forget(index)
        self._lives[index].close()
        process.close()
        self._processes[index] = None

    def disown(self) -> None:
        """They belong to the process that this one was forked from, and end with it."""
        self._processes = [None] * len(self._processes)
        for connection in filter(None, self._lives + self._pipes):
            connection.close()

    def _forget(self, index: int) -> None:
        """Close a worker's pipe; it then has nobody to serve."""
        pipe = self._pipes[index]
        if not pipe.closed and pipe.fileno() in self._selector.get_map():
            self._selector.unregister(pipe)
        pipe.close()

    def close(self) -> None:
        """See `Workers`; they have a second to close their environments."""
        _close([self])

    def __del__(self) -> None:
        self.close()


def _require_main() -> None:
    """Refuse to start processes that could not import the program.

    Raises:
        ValueError: it is in no file, or this is one of them, which imports it.
    """
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    unnamed = getattr(main, "__spec__", None) is None
    if unnamed and path is not None and not os.path.exists(path):
        raise ValueError(
            "`vectorization`: expected a program in a file, as processes of "
            f"environments import it, got {path}: save it in one, or take 'sync'."
        )
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ValueError(f"`vectorization`: {GUARD}.")


_STARTING = threading.Lock()
_open: weakref.WeakSet[ProcessWorkers] = weakref.WeakSet()


def _close(several: Sequence[ProcessWorkers]) -> None:
    deadline = time.monotonic() + CLOSE_SECONDS
    living = [(workers, index) for workers in several for index in workers.living()]
    for workers, index in living:
        workers._forget(index)
    try:
        for workers, index in living:
            workers._processes[index].join(max(0.0, deadline - time.monotonic()))
    finally:
        for workers, index in living:
            workers.end(index)
    for workers in several:
        workers._selector.close()


def _disown_all() -> None:
    """In a process that was forked from the one that has them."""
    for workers in list(_open):
        workers.disown()


def _close_all() -> None:
    """End all workers as the program ends, and let no other thread start more.

    Before the hook of multiprocessing, which was registered earlier: it sends SIGTERM,
    which they ignore, and waits for them.
    """
    _STARTING.acquire()
    _close(list(_open))


os.register_at_fork(after_in_child=_disown_all)
atexit.register(_close_all)


def _bound(pipe: Connection, seconds: float) -> None:
    """Have no read or write of a pipe's socket wait longer than this.

    A worker may be stopped in the middle of a message.
    """
    bound = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6) + 1)
    with socket.socket(fileno=os.dup(pipe.fileno())) as handle:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)
