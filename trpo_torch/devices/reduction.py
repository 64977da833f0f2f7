"""PyTorch alone: sums means over processes; JAX's are XLA's (`devices/means.py`).

On one device a mean is `mean()`, to the bit. Where each of many devices has a shard of
the samples it is the sum over all of them, divided by the number of all of them: not a
mean of the shards' means, which is another number as soon as shards are uneven. All
that an update decides by is such a mean, so all devices decide alike.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from trpo_torch.distributions import Distribution


class Shard(NamedTuple):
    """The samples that are at hand.

    Attributes:
        weights: [n, 1] of each sample in a mean over all: 1 / N of N samples in all, or
            0 where a row only fills the shard up.
        across: whether other devices have the others; else they are in other chunks,
            and who calls adds those up.
        few: numbers of the rows at which Fisher products are taken, and what they are
            of all such samples; None where that is no other.
    """

    weights: Float[Tensor, "n 1"]
    across: bool = True
    few: "tuple[Tensor, Shard] | None" = None


_shard: contextvars.ContextVar[Shard | None] = contextvars.ContextVar(
    "shard", default=None
)


@contextlib.contextmanager
def sharded(shard: Shard | None) -> Iterator[None]:
    """Context in which the samples at hand are this shard; all of them if None."""
    token = _shard.set(shard)
    try:
        yield
    finally:
        _shard.reset(token)


def current() -> Shard | None:
    """The shard that the samples at hand are; None if they are all."""
    return _shard.get()


def at_few(make: Callable[..., Callable]) -> Callable[..., Callable]:
    """What makes a function, so that both see the shard's few rows."""
    shard = _shard.get()
    if shard is None or shard.few is None:
        return make
    _, few = shard.few

    def made(*arguments: Any) -> Callable:
        with sharded(few):
            function = make(*arguments)

        def call(*arguments: Any) -> Any:
            with sharded(few):
                return function(*arguments)

        return call

    return made


def share(values: Float[Tensor, "m 1"]) -> Float[Tensor, ""]:
    """The local samples' contribution to the mean over all samples.

    Args:
        values: Of each sample, or one row that is the same for all.
    """
    shard = _shard.get()
    if shard is None:
        return values.mean()
    if values.shape[0] != shard.weights.shape[0]:
        return values.sum() * shard.weights.sum()
    return (values * shard.weights).sum()


def total(part: Any) -> Any:
    """The sum of all devices' parts, a tensor or several: one flat all-reduce.

    Its derivative is that of the device's own part: a gradient of what was summed is a
    part as well, and its sum the gradient.
    """
    shard = _shard.get()
    if shard is None or not shard.across:
        return part
    if isinstance(part, Tensor):
        return _AllReduce.apply(part)
    flat = _AllReduce.apply(torch.cat([piece.reshape(-1) for piece in part]))
    pieces = flat.split([piece.numel() for piece in part])
    return tuple(new.view_as(old) for new, old in zip(pieces, part, strict=True))


def together(parts: Callable[[], Any]) -> Any:
    """Sum a tuple of means and of shares over all devices in one all-reduce.

    Args:
        parts: Called so that its means are the device's shares of them.
    """
    shard = _shard.get()
    if shard is None or not shard.across:
        return parts()
    with sharded(shard._replace(across=False)):
        part = parts()
    return total(part)


def row_weight(rows: int) -> Tensor | float:
    """Weight of each local row in a mean over all samples."""
    shard = _shard.get()
    return 1.0 / rows if shard is None else shard.weights


def mean(values: Float[Tensor, "m 1"]) -> Float[Tensor, ""]:
    """Mean over all samples; see `share` and `total`."""
    return total(share(values))


def variance(values: Float[Tensor, "n 1"]) -> Float[Tensor, ""]:
    """Population variance over all samples."""
    if _shard.get() is None:
        return values.var(correction=0)
    return mean((values - mean(values)) ** 2)


def weighted(tangent: Distribution) -> Distribution:
    """A tangent that is to be summed over all samples.

    Args:
        tangent: [n or 1, …] each; of a mean over the samples at hand, as
            a distribution's `fisher_metric` returns it.
    """
    shard = _shard.get()
    if shard is None:
        return tangent
    weights = shard.weights

    def of_rows(field: Tensor) -> Tensor:
        if field.shape[0] != weights.shape[0]:
            return field * weights.sum()
        scale = weights * weights.shape[0]
        return field * scale.reshape(-1, *(1,) * (field.ndim - 1))

    return tangent._make(map(of_rows, tangent))


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:  # pyright: ignore
        summed = part.detach().clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # pyright: ignore
        return gradient
