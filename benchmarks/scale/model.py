"""The time of an update on D devices, from bytes, latency, bandwidth and speed.

A ring all-reduce of n bytes over D devices takes 2 (D - 1) steps, each of which costs
the latency a and sends n / D bytes at the bandwidth B (Thakur et al. 2005,
"Optimization of Collective Communication Operations in MPICH", section 4):
t = 2 (D - 1) (a + n / (D B)). A tree, there and back, takes 2 log2(D) (a + n / B),
which is less for few numbers; NCCL takes the faster, and so does this. Computing is
divided evenly.
"""

import math
from typing import NamedTuple

from benchmarks.scale.communication import AllReduces


class Link(NamedTuple):
    """Between neighbouring devices.

    Attributes:
        name: what it is like.
        latency: seconds of a step.
        bandwidth: bytes a second.
    """

    name: str
    latency: float
    bandwidth: float


class Load(NamedTuple):
    """One update.

    Attributes:
        samples: in all.
        seconds: that one device computes for it.
        sums: its all-reduces.
    """

    samples: int
    seconds: float
    sums: AllReduces


# Of data sheets: eight GPUs on one board; machines joined by InfiniBand or Ethernet.
LINKS = (
    Link("NVLink, 5 us, 200 GB/s", 5e-6, 200e9),
    Link("InfiniBand, 10 us, 25 GB/s", 10e-6, 25e9),
    Link("Ethernet, 50 us, 3 GB/s", 50e-6, 3e9),
)
DEVICES = tuple(2**k for k in range(11))


def all_reduce_seconds(
    count: int, devices: int, link: Link, itemsize: int = 4
) -> float:
    """Seconds of one all-reduce of `count` numbers: of a ring, or of a tree."""
    if devices == 1:
        return 0.0
    sending, depth = itemsize * count / link.bandwidth, math.ceil(math.log2(devices))
    ring = 2 * (devices - 1) * (link.latency + sending / devices)
    return min(ring, 2 * depth * (link.latency + sending))


def communication_seconds(sums: AllReduces, devices: int, link: Link) -> float:
    """Seconds of all all-reduces of an update, one after the other."""
    return sum(
        times * all_reduce_seconds(size, devices, link)
        for size, times in sums.counts.items()
    )


def efficiency(load: Load, devices: int, link: Link) -> float:
    """Share of the devices' time that computes: T(1) / (D T(D))."""
    total = load.seconds / devices + communication_seconds(load.sums, devices, link)
    return load.seconds / (devices * total)


def samples_that_pay(
    load: Load, devices: int, link: Link, wanted: float = 0.5
) -> float:
    """Samples at which the efficiency is `wanted`, computing being proportional.

    With as many all-reduces: the critic's minibatches grow with the batch.
    """
    spent = communication_seconds(load.sums, devices, link)
    return load.samples * wanted / (1.0 - wanted) * spent * devices / load.seconds
