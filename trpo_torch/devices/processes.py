"""The processes of a run, on PyTorch's own engine: gloo on CPUs, NCCL on GPUs."""

import contextlib
import datetime
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import distributed

from trpo.distributed.launchers import Place
from trpo.distributed.lost import end_process
from trpo.distributed.ranks import Alone, Ranks


# Who waits for a rank that evaluates waits as long as that takes: what ends a run of
# which a rank is lost is the watch.
COLLECTIVE_TIMEOUT = datetime.timedelta(days=30)
# For the others to come.
MEETING_TIMEOUT = datetime.timedelta(minutes=5)
BEAT_SECONDS = 1.0
# Without a sign of life, once a collective has failed.
GRACE_SECONDS = 6.0


class ProcessRanks(Ranks):
    """This process and the others, with a thread that notices who is lost.

    gloo tells the neighbours of a killed rank that a connection is closed, not whose,
    and others nothing; of a rank that is stopped it tells none. So each rank counts in
    the store at which all have met, once a second; one whose count stands still is
    lost, and this process ends.

    Args:
        place: Of this process.
        store: Where the ranks have met.
        timeout: Seconds after which a rank that does not count is lost.
    """

    def __init__(self, place: Place, store: Any, timeout: float) -> None:
        super().__init__(place.rank, place.size, self._all_gathered, _broadcasted)
        self._store, self._timeout = store, timeout
        others = {rank for rank in range(self.size) if rank != self.rank}
        self._counts = dict.fromkeys(others, -1)
        self._seen = dict.fromkeys(others, time.monotonic())
        self._parting = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watch")
        self._thread.start()

    def _all_gathered(self, message: np.ndarray) -> np.ndarray:
        received = torch.empty(self.size, len(message), dtype=torch.uint8)
        distributed.all_gather(list(received), torch.from_numpy(message))
        return received.numpy()

    def _watch(self) -> None:
        now = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            while not self._parting.wait(BEAT_SECONDS):
                before, now = now, time.monotonic()
                if now - before > self._timeout + BEAT_SECONDS:
                    # It was this process that stood still: the others have gone on.
                    self._end(f"stood still for {now - before:.0f} s")
                try:
                    # Of a process that is stopped the store does not answer.
                    pool.submit(self._count, now).result(self._timeout)
                except (RuntimeError, TimeoutError) as error:
                    # Who parts last may find it gone.
                    if not self._parting.wait(2 * BEAT_SECONDS):
                        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
                        host = "torchrun" if agent else "rank 0"
                        self._end(f"lost {host}: {str(error) or 'no answer'}")

    def _count(self, now: float) -> None:
        self._store.add(f"alive/{self.rank}", 1)
        for rank, before in self._counts.items():
            if self._store.check([failed := f"failed/{rank}"]):
                self._end(f"lost rank {rank}: {self._store.get(failed).decode()}")
            count = self._store.add(f"alive/{rank}", 0)
            if count != before:
                self._counts[rank], self._seen[rank] = count, now
            elif (silent := now - self._seen[rank]) > self._timeout:
                reason = f"no sign of life for {silent:.0f} s"
                self._store.set(failed, reason)
                # The others read it before the store ends, which may be here.
                self._parting.wait(2 * BEAT_SECONDS)
                self._end(f"lost rank {rank}: {reason}")

    def _end(self, message: str) -> None:
        if not self._parting.is_set():
            end_process(f"rank {self.rank}: {message.splitlines()[0]}")

    def name_lost(self) -> None:
        """See `Ranks`."""
        before, self._timeout = self._timeout, min(self._timeout, GRACE_SECONDS)
        self._thread.join(before + 3 * BEAT_SECONDS)

    def fail(self, reason: str) -> None:
        """See `Ranks`."""
        self._parting.set()
        with contextlib.suppress(RuntimeError):
            self._store.set(f"failed/{self.rank}", reason[:1000])
            time.sleep(2 * BEAT_SECONDS)  # Until the others have read it.

    def close(self) -> None:
        """See `Ranks`."""
        distributed.barrier()
        self._parting.set()
        self._thread.join()
        distributed.destroy_process_group()
        super().close()


def start(
    device: str = "cpu", place: Place | None = None, timeout: float = 20.0
) -> Ranks:
    """Meet the other processes of this run; to be called first, by all of them.

    Args:
        device: Of this process: "cpu", or "cuda" for the GPU of its local rank.
        place: This process's, by default as its launcher says.
        timeout: Seconds without a sign of life after which a process counts as lost.

    Raises:
        ValueError: nothing says where they meet.
    """
    at = place or Place.of_launcher()
    if at is None or at.coordinator is None:
        raise ValueError(
            "`distributed`: expected a launcher (torchrun, mpirun or srun), with "
            "MASTER_ADDR and MASTER_PORT where mpirun uses several machines, or "
            "--coordinator, --num-processes and --process-id, got neither."
        )
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(local_device(device))
    store, *_ = next(
        distributed.rendezvous(
            f"tcp://{at.coordinator}", at.rank, at.size, timeout=MEETING_TIMEOUT
        )
    )
    # torchrun's store outlives a restart, with the addresses of those who were lost.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = distributed.PrefixStore(f"attempt-{attempt}", store)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        store=store,
        rank=at.rank,
        world_size=at.size,
        timeout=COLLECTIVE_TIMEOUT,
    )
    return ProcessRanks(at, store, timeout)


def local_device(device: str) -> str:
    """The device of this process among those of its machine."""
    place = Place.of_launcher()
    if device != "cuda" or place is None:
        return device
    return f"cuda:{place.local_rank or 0}"


def devices_of(device: Any, ranks: Alone, devices: Sequence[Any]) -> list[Any]:
    """The one device on which a process of these ranks computes sharded updates.

    Raises:
        ValueError: more were asked for.
    """
    if len(devices) > 1:
        raise ValueError(
            f"`devices`: expected one for each process of PyTorch, got {devices}. "
            "Start more processes: torchrun --nproc-per-node."
        )
    return [device]


def _broadcasted(message: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(message)
    distributed.broadcast(tensor, 0)
    return tensor.numpy()
