"""One thread for little work: on a CPU, two wait for each other longer."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch


# Multiplications of a pass up to which one thread is faster. To wake one that sleeps
# takes some 60 us, and where others want the cores up to 40 ms. Two take twice one's
# time at 2.5 million (minibatches of 256, layers of 64), 1.2 times at 36 million, and
# 0.8 times at 290 million.
ONE_THREAD = 2**24
_Method = TypeVar("_Method", bound=Callable[..., Any])


@contextlib.contextmanager
def threads_for(samples: int, weights: int | None) -> Iterator[None]:
    """As many threads in this block as pay for a pass of so many samples.

    Args:
        samples: Of a pass.
        weights: Multiplications of a sample; None where they aren't known.
    """
    threads = torch.get_num_threads()
    if threads == 1 or weights is None or samples * weights > ONE_THREAD:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def few_threads(method: _Method) -> _Method:
    """A backend's forward pass that has one thread where its observations are few."""

    @functools.wraps(method)
    def call(backend: Any, obs: Any, *arguments: Any, **options: Any) -> Any:
        with threads_for(len(obs), backend.dense_weights):
            return method(backend, obs, *arguments, **options)

    return call  # pyright: ignore[reportReturnType]
