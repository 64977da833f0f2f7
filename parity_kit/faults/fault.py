"""Kinds of faults that ports have had, and which of a function's to plant."""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple


SWAPPED = "operands of a difference swapped"
BIAS = "bias dropped"
AXIS = "axis changed"
MEAN = "mean for sum"
EPSILON = "epsilon times ten"
GELU = "exact for approximate gelu"
TRANSPOSE = "transpose missing"
BFLOAT16 = "cast to bfloat16"
FACTOR = "factor of 1.01"
STOPPED = "stopped gradient lost"
LAST_ROW = "last row left out"
KINDS = (
    SWAPPED, BIAS, AXIS, MEAN, EPSILON, GELU, TRANSPOSE, BFLOAT16, FACTOR, STOPPED,
    LAST_ROW,
)  # fmt: skip
# What a constant below is added for: a division by zero.
SMALL = 1e-3


class Fault(NamedTuple):
    """One fault at one place.

    Attributes:
        kind: one of `KINDS`.
        place: the operation, and the source line where it is known.
        index: which of the operations that the function runs.
    """

    kind: str
    place: str
    index: int

    def __str__(self) -> str:
        return f"{self.kind}: {self.place}"


def drawn(faults: Sequence[Fault], count: int, seed: int = 0) -> list[Fault]:
    """`count` of the faults, as many of each kind as there are, drawn by `seed`."""
    rng = random.Random(seed)
    by_kind: dict[str, list[Fault]] = defaultdict(list)
    for fault in rng.sample(list(faults), len(faults)):
        by_kind[fault.kind].append(fault)
    chosen: list[Fault] = []
    while len(chosen) < min(count, len(faults)):
        for kind in KINDS:
            if by_kind[kind] and len(chosen) < count:
                chosen.append(by_kind[kind].pop())
    return chosen
