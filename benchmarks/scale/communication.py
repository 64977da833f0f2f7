"""What the devices send each other in one update: counted, not assumed."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock


class AllReduces(NamedTuple):
    """All-reduces of one update.

    Attributes:
        counts: numbers of an all-reduce -> how often there is one of that size.
    """

    counts: dict[int, int]

    @property
    def number(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    def bytes(self, itemsize: int = 4) -> int:
        """Bytes that are reduced."""
        return itemsize * sum(size * count for size, count in self.counts.items())


@contextmanager
def counted_of_torch() -> Iterator[Counter]:
    """Counts PyTorch's calls inside the block, by their size."""
    from torch import distributed

    counts: Counter = Counter()
    real = distributed.all_reduce

    def counting(tensor: Any, *args: Any, **options: Any) -> Any:
        counts[tensor.numel()] += 1
        return real(tensor, *args, **options)

    with mock.patch("torch.distributed.all_reduce", counting):
        yield counts


def in_compiled_text(text: str) -> int:
    """All-reduces in the text of a compiled program; one in a loop counts once."""
    return len(re.findall(r"all-reduce(?:-start)?\(", text))
