"""Signals that end a run with what it has learned saved.

A command watches them from its first moment, before it imports anything else: an
exception out of a handler would be lost in a callback of somebody else's, or be a
traceback. Where something is to be saved, a block of `stop_signals` notes the first;
elsewhere it ends the process.
"""

import contextlib
import fcntl
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn, Protocol


# Ctrl-C; a scheduler; a terminal that hangs up; a scheduler that warns.
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# A shell's, of a process that a signal has ended, is this plus the signal's number.
ENDED_BY_SIGNAL = 128
STOPPING = "stopping after this update"
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

    Args:
        saying: What a command says as the first comes.
    """

    def __init__(self, saying: str) -> None:
        self.saying = saying
        self.number = 0
        """Of the first signal; 0 before one has come."""
        self._interrupted = False

    def is_set(self) -> bool:
        """Whether it has."""
        return self.number != 0

    @property
    def status(self) -> int:
        """Exit status of a process that ends for it; 0 if no signal has come."""
        return ENDED_BY_SIGNAL + self.number if self.number else 0

    def take(self, number: int, _: object = None) -> None:
        """Note a signal; a second SIGINT raises KeyboardInterrupt, if none watches."""
        if number == signal.SIGINT and self._interrupted and not _watched:
            raise KeyboardInterrupt
        self._interrupted |= number == signal.SIGINT
        self.number = self.number or number


# Of the blocks that are open now: who asks one to end asks all.
_open: StopRequest | None = None
_watched = False


@contextlib.contextmanager
def stop_signals(saying: str = STOPPING) -> Iterator[StopRequest]:
    """A request to stop, which a signal of `ASKING` sets while the block lasts.

    A signal that is ignored, as SIGHUP under nohup, stays so. Blocks may be inside each
    other, and in other threads than the main one, which alone can handle signals.

    Args:
        saying: What a command says as the first signal comes; the outermost block's.
    """
    global _open
    asked = _open or StopRequest(saying)
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    with contextlib.ExitStack() as restored:
        _open, before = asked, _open
        for number in _not_ignored():
            restored.callback(_handle(number, asked.take))
        try:
            yield asked
        finally:
            _open = before


def _not_ignored() -> list[signal.Signals]:
    return [n for n in ASKING if signal.getsignal(n) is not signal.SIG_IGN]


@contextlib.contextmanager
def watched_signals() -> Iterator[None]:
    """Have signals act at once, whatever the process computes; for a whole command.

    A thread is woken by the system itself. The first signal in a block of
    `stop_signals` is answered by what that says; a second Ctrl-C ends the process, as
    does any signal outside of a block. What is on disk is whole at any moment.
    """
    global _watched
    # Standard streams that were closed before stay so.
    pair = os.pipe()
    reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in pair)
    for end in pair:
        os.close(end)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()
    _watched = True
    for number in _not_ignored():
        signal.signal(number, _left_to_the_watch)
    # A signal to a process that the user's code forks is not one to this.
    masks: list[set] = []
    os.register_at_fork(
        before=lambda: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop()),
        after_in_child=lambda: _unwatch(masks.pop()),
    )
    try:
        yield
    finally:
        # What else the interpreter does as it ends is not worth waiting for.
        _unwatch(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def _unwatch(mask: set) -> None:
    global _watched
    if _watched:
        _watched = False
        signal.set_wakeup_fd(-1)
        for number in _not_ignored():
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def unsignalled() -> Iterator[None]:
    """Have no signal of `ASKING` reach the processes that a command starts in it.

    As they begin they would end by it, or print a traceback. Their parent ends them.
    Not those of other programs, whose server of processes is not for ours alone.
    """
    if not _watched:
        yield
        return
    # It would let signals through again; and warns as a process is ended at once.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    importlib.import_module("multiprocessing.resource_tracker").ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _left_to_the_watch(*_: object) -> None:
    """A handler that is no default: those wake nobody."""


def _watch(reading: int) -> None:
    interrupted = answered = False
    while True:
        for number in os.read(reading, 1):
            if number not in ASKING:
                continue
            asked = _open
            if asked is None or (interrupted and number == signal.SIGINT):
                _end(number)
            interrupted |= number == signal.SIGINT
            if not answered:
                again = "; Ctrl-C again ends at once" if interrupted else ""
                _say(f"{asked.saying}{again}")
            answered = True


def _say(text: str) -> None:
    """Print past Python's streams, which may be in use, below what a bar shows."""
    with contextlib.suppress(OSError):
        below = "\n" if os.isatty(2) else ""
        os.write(2, f"{below}{text}\n".encode())


def _end(number: int) -> NoReturn:
    """End the process and those that it has started to compute for it."""
    with contextlib.suppress(OSError):
        if os.isatty(1):
            os.write(1, b"\x1b[?25h")  # A bar hides the cursor.
    try:
        if processes := sys.modules.get("multiprocessing"):
            for child in processes.active_children():
                child.kill()
    finally:
        os._exit(ENDED_BY_SIGNAL + number)


def _handle(number: int, handler: Callable[[int, object], None]) -> Callable[[], None]:
    """Set a handler; returns what sets the one before, also one that is not Python's.

    Python has no name for those of C, such as JAX's of SIGTERM in a run of many
    processes.
    """
    import ctypes

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
