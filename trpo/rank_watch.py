"""Notices a rank that has died or hangs, and ends the others, whatever they do.

A collective with a rank that does not come may wait for ever, and holds the main thread
where no signal reaches it: so this is a thread, outside of all collectives, and it ends
the process itself. Each rank sends rank 0 a sign of life a second, and rank 0 each of
them; a rank is lost if its connection ends without a farewell (it was killed), if it
says that it failed, or if no sign has come for too long (it was stopped, or its machine
is gone).
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait

from trpo.common.signals import StopRequest
from trpo.common.terminal import SafeStream, Terminal
from trpo.ranks import Ranks


# Exit status of a rank that has lost another: "temporary failure; try again".
LOST_RANK = os.EX_TEMPFAIL
BEAT_SECONDS = 1.0
# What a rank that meets an error waits for news of another that caused it.
GRACE_SECONDS = 3.0
ALIVE, FAREWELL = b"alive", b"farewell"
# A sign of life of a rank that a signal has asked for the end of the run.
ASKED = b"asked"
FAILED = b"failed "


class RankWatch:
    """A thread that ends this process when another rank is lost.

    Args:
        ranks: This one and the others.
        timeout: Seconds without a sign of life after which a rank is lost.
    """

    def __init__(self, ranks: Ranks, timeout: float = 20.0) -> None:
        self.ranks, self.timeout = ranks, timeout
        self.rescue: Callable[[], str] | None = None
        """Saves what there is, and says where; called by one of the ranks left."""
        self.asked: StopRequest | None = None
        """Set by signals to this process; signals to the others set rank 0's."""
        self.lost = threading.Event()
        self._parting = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")
        self._thread.start()

    def fail(self, reason: str) -> None:
        """Tell the others that this rank can't go on.

        If another was lost before, that is the reason of whatever happened here: then
        this does not return.
        """
        if self.lost.wait(GRACE_SECONDS):
            self._thread.join()
        message = FAILED + f"{self.ranks.rank} {reason}".encode()[:4000]
        self._parting = True
        self._send(message)

    def close(self) -> None:
        """Part from the others; after this none is missed."""
        self._parting = True
        self._send(FAREWELL)
        self._thread.join()

    def _run(self) -> None:
        living = dict(self.ranks.beats)
        now = next_beat = time.monotonic()
        seen = dict.fromkeys(living, now)
        while living and not self._parting:
            before, now = now, time.monotonic()
            if now - before > self.timeout:
                # It was this process that stood still: the others have gone on, and
                # what they have saved is not to be written over.
                _end(f"rank {self.ranks.rank} stood still for {now - before:.0f} s")
            # Not at each turn: signs that answer signs would go on for ever, and fill
            # the buffer of a rank that is stopped, so that to send to it waits.
            if now >= next_beat:
                asked = self.asked is not None and self.asked.is_set()
                self._send(ASKED if asked else ALIVE)
                next_beat = now + BEAT_SECONDS
            numbers = {connection: rank for rank, connection in living.items()}
            for ready in wait(list(living.values()), max(0.0, next_beat - now)):
                rank = numbers[ready]  # pyright: ignore[reportArgumentType]
                if self._parted(rank):
                    del living[rank]
                seen[rank] = time.monotonic()
            for rank in living:
                if (silent := time.monotonic() - seen[rank]) > self.timeout:
                    self._lose(rank, f"no sign of life for {silent:.0f} s")

    def _parted(self, rank: int) -> bool:
        """Read what a rank sent; whether it was its farewell."""
        try:
            message = self.ranks.beats[rank].recv_bytes()
        except (EOFError, OSError):
            if not self._parting:
                self._lose(rank, "its process ended")
            return True
        if message.startswith(FAILED):
            number, _, reason = message.removeprefix(FAILED).partition(b" ")
            self._lose(int(number), reason.decode(errors="replace"))
        if message == ASKED and self.ranks.rank == 0 and self.asked is not None:
            self.asked.take(signal.SIGTERM, None)
        return message == FAREWELL

    def _lose(self, rank: int, reason: str) -> None:
        """Tell the others, save and end."""
        self.lost.set()
        self._send(FAILED + f"{rank} {reason}".encode())
        rank_here, where = self.ranks.rank, ""
        # The lowest rank that is left; of two lost at once, what was saved last counts.
        if rank_here == (1 if rank == 0 else 0) and self.rescue is not None:
            where = f"; {self.rescue()}"
        _end(f"rank {rank_here}: lost rank {rank}: {reason}{where}")

    def _send(self, message: bytes) -> None:
        with self._lock:
            for connection in self.ranks.beats.values():
                with contextlib.suppress(OSError, ValueError):
                    connection.send_bytes(message)


def _end(message: str) -> None:
    """Print, and end the process past all that may hang or wait for the lost rank."""
    Terminal(stderr=True).error(message)
    SafeStream.of(sys.stdout).flush()
    os._exit(LOST_RANK)
