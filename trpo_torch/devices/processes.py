"""The processes of a run, on PyTorch's own engine: gloo on CPUs, NCCL on GPUs."""

import datetime
from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed

from trpo.launchers import local_rank
from trpo.ranks import MEETING_BYTES, Alone, Ranks, this_host
from trpo.rendezvous import Rendezvous


# The watch of ranks is faster; this is for whoever has none.
COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=10)


def start(device: str = "cpu", rendezvous: Rendezvous | None = None) -> Ranks:
    """Meet the other processes of this run; to be called first, by all of them.

    Args:
        device: Of this process: "cpu", or "cuda" for the GPU of its local rank.
        rendezvous: Where they meet; by default what a launcher has put into the
            environment (`Rendezvous.of_environment`).

    Raises:
        ValueError: nothing says where.
    """
    at = rendezvous or Rendezvous.of_environment()
    if at is None:
        raise ValueError(
            "`distributed`: expected a launcher (torchrun, mpirun, or srun with "
            "MASTER_ADDR and MASTER_PORT in the environment), or --coordinator, "
            "--num-processes and --process-id, got neither."
        )
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(local_device(device))
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"tcp://{at.host}:{at.port}",
        rank=at.rank,
        world_size=at.size,
        timeout=COLLECTIVE_TIMEOUT,
    )
    kind = "cuda" if on_gpu else "cpu"

    def broadcast(message: bytes) -> bytes:
        filled = bytearray(message.ljust(MEETING_BYTES))
        buffer = torch.frombuffer(filled, dtype=torch.uint8).to(kind)
        distributed.broadcast(buffer, 0)
        return bytes(buffer.cpu().numpy()).rstrip()

    host = at.host if at.is_local else this_host()
    return Ranks(at.rank, at.size, broadcast, host)


def local_device(device: str) -> str:
    """The device of this process among those of its machine."""
    if device != "cuda":
        return device
    return f"cuda:{local_rank() or 0}"


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


def stop() -> None:
    """Part from the other processes."""
    distributed.destroy_process_group()
