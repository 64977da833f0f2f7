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


def counted_of_jax(jaxpr: Any, loops: list[int]) -> AllReduces:
    """Counts those of a traced program.

    Args:
        jaxpr: Of the program.
        loops: How often each `while_loop` with an all-reduce runs, in their order:
            conjugate gradient and line search.
    """
    counts: Counter = Counter()
    _walk(jaxpr, 1, counts, iter(loops))
    return AllReduces(dict(counts))


def in_lowered_text(text: str) -> int:
    """All-reduces in the text of a lowered program; one in a loop counts once."""
    return len(re.findall(r"all_reduce|all-reduce(?:-start)?\(", text))


def _walk(jaxpr: Any, times: int, counts: Counter, loops: Iterator[int]) -> None:
    for equation in jaxpr.eqns:
        if equation.primitive.name.startswith("psum"):
            for variable in equation.invars:
                counts[int(variable.aval.size)] += times
            continue
        repeat = times
        bodies = [
            body
            for value in equation.params.values()
            for body in (value if isinstance(value, (tuple, list)) else (value,))
            if hasattr(body, "eqns") or hasattr(body, "jaxpr")
        ]
        bodies = [getattr(body, "jaxpr", body) for body in bodies]
        name = equation.primitive.name
        # Of a call with a derivative of its own, the function is one parameter.
        if name == "custom_jvp_call":
            bodies = bodies[:1]
        if name == "scan":
            repeat = times * equation.params["length"]
        if name == "while" and any(map(_has_sum, bodies)):
            repeat = times * next(loops)
        for body in bodies:
            _walk(body, repeat, counts, loops)


def _has_sum(jaxpr: Any) -> bool:
    return "psum" in str(jaxpr)
