"""Signals that end a run with what it has learned saved."""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Protocol


# Ctrl-C; a scheduler; a terminal that hangs up; a scheduler that warns.
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# Bytes that hold C's `struct sigaction` on any system.
_ACTION_BYTES = 1024


class Stop(Protocol):
    """A request to save and exit, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether it has come."""
        ...


class StopRequest:
    """Whether a signal has asked for the end; to note it takes no lock.

    Two signals may come at once, one's handler inside the other's: a `threading.Event`
    would wait for itself.
    """

    def __init__(self) -> None:
        self._asked = self._interrupted = False

    def is_set(self) -> bool:
        """Whether it has."""
        return self._asked

    def take(self, number: int, _: object) -> None:
        """Note a signal; a second SIGINT raises KeyboardInterrupt."""
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted |= number == signal.SIGINT
        self._asked = True


# Of the blocks that are open now: who asks one to end asks all.
_open: StopRequest | None = None


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """A request to stop, which a signal of `ASKING` sets while the block lasts.

    A signal that is ignored, as SIGHUP under nohup, stays so. Blocks may be inside each
    other, and in other threads than the main one, which alone can handle signals.
    """
    global _open
    asked = _open or StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    with contextlib.ExitStack() as restored:
        _open, before = asked, _open
        for number in ASKING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                restored.callback(_handle(number, asked.take))
        try:
            yield asked
        finally:
            _open = before


def _handle(number: int, handler: Callable[[int, object], None]) -> Callable[[], None]:
    """Set a handler; returns what sets the one before, also one that is not Python's.

    Python has no name for those of C, such as JAX's of SIGTERM in a run of many
    processes.
    """
    act = ctypes.CDLL(None).sigaction
    before, action = (
        signal.getsignal(number),
        ctypes.create_string_buffer(_ACTION_BYTES),
    )
    act(number, None, action)
    signal.signal(number, handler)

    def restore() -> None:
        signal.signal(number, signal.SIG_DFL if before is None else before)
        act(number, action, None)

    return restore
