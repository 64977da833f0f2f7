"""One thread for few observations: on a CPU, two wait for each other longer."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch


# Multiplications up to which a second thread gains nothing, and where other programs
# want the cores, takes up to 40 ms: threads wait for each other.
ONE_THREAD = 2**22
_Method = TypeVar("_Method", bound=Callable[..., Any])


def few_threads(method: _Method) -> _Method:
    """A backend's forward pass that has one thread where its observations are few."""

    @functools.wraps(method)
    def call(backend: Any, obs: Any, *arguments: Any, **options: Any) -> Any:
        threads, weights = torch.get_num_threads(), backend.dense_weights
        if threads == 1 or weights is None or len(obs) * weights > ONE_THREAD:
            return method(backend, obs, *arguments, **options)
        torch.set_num_threads(1)
        try:
            return method(backend, obs, *arguments, **options)
        finally:
            torch.set_num_threads(threads)

    return call  # pyright: ignore[reportReturnType]
