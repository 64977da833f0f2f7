"""Matrix products by the fastest of PyTorch's libraries, with threads that pay.

PyTorch's float32 products are MKL's, which has no AVX-512 on processors of AMD. oneDNN,
which PyTorch contains too, is twice as fast there, and PyTorch's own compiler reaches
it by the operator used here.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import linear

from trpo.common.machine import is_amd


ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
    and is_amd()
)
"""Whether it is worth asking."""
# From so many multiplications on: below, calling it takes longer than it saves.
ONEDNN_FROM = 3 * 2**19
# Transposed factors are laid out anew each time: worth it from so many multiplications,
# and so many rows and columns of the product, on.
TRANSPOSED_FROM, TRANSPOSED_SIZE = 2**24, 128
# From so many outputs of a layer on: PyTorch's tanh takes 1.1 ns for each, oneDNN's,
# computed where the product is written, a tenth of it, but the call 20 us more.
TANH_FROM = 2**15
# Multiplications of a pass up to which one thread is faster, or as fast and not slowed
# where others want the cores. Two take twice one's time at 3 million (minibatches of
# 256, layers of 64), 1.3 times at 23 million, and 0.9 times at 37 million.
ONE_THREAD = 2**25
_Method = TypeVar("_Method", bound=Callable[..., Any])


class Products(NamedTuple):
    """Matrix products by one library.

    Attributes:
        linear: x, weight, bias -> x weight' + bias.
        times: two matrices -> their product.
        put: into, left, right: the product of the last two, written over the first.
        add: into, left, right: the same, added to it.
        wants_transposed: x, weight of a layer -> whether x' u, for many u, is faster
            where a copy of x' is at hand.
    """

    linear: Callable[..., Tensor]
    times: Callable[[Tensor, Tensor], Tensor]
    put: Callable[[Tensor, Tensor, Tensor], Any]
    add: Callable[[Tensor, Tensor, Tensor], Any]
    wants_transposed: Callable[[Tensor, Tensor], bool]


def products(x: Tensor, weights: int) -> Products:
    """The products for rows x [n, in] and layers of at most `weights` weights."""
    fast = ONEDNN and x.shape[0] * weights >= ONEDNN_FROM and x.dtype == torch.float32
    # `torch.compile` can't take the operator, which it puts in by itself.
    usable = x.is_cpu and not torch.compiler.is_compiling()
    return _BY_ONEDNN if fast and usable else _BY_DEFAULT


def tanh_layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """tanh(x weight' + bias)."""
    fast = (
        ONEDNN
        and x.shape[0] * weight.shape[0] >= TANH_FROM
        and x.dtype == torch.float32
        and x.is_cpu
        and x.is_contiguous()
        and not torch.compiler.is_compiling()
    )
    if not fast:
        return torch.tanh(linear(x, weight, bias))
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "tanh", [], "")


def _worth(x: Tensor, weight: Tensor, least: int = ONEDNN_FROM) -> bool:
    """Whether oneDNN is faster at x weight'."""
    if x.shape[0] * weight.numel() < least:
        return False
    # Of other layouts its products are two thousand times slower.
    return x.is_contiguous() or x.t().is_contiguous()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not _worth(x, weight):
        return linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _put(into: Tensor, left: Tensor, right: Tensor, add: bool = False) -> None:
    least = ONEDNN_FROM
    if not left.is_contiguous():
        least = TRANSPOSED_FROM if min(into.shape) >= TRANSPOSED_SIZE else sys.maxsize
    if not _worth(left, right.t(), least):
        torch.addmm(into, left, right, beta=float(add), out=into)
    elif add:
        into.add_(_linear(left, right.t()))
    else:
        into.copy_(_linear(left, right.t()))


_BY_DEFAULT = Products(
    linear,
    torch.mm,
    lambda into, left, right: torch.mm(left, right, out=into),
    Tensor.addmm_,
    lambda x, weight: False,
)
_BY_ONEDNN = Products(
    _linear,
    lambda left, right: _linear(left, right.t()),
    _put,
    functools.partial(_put, add=True),
    _worth,
)


@contextlib.contextmanager
def threads_for(weights: int | None, samples: int) -> Iterator[None]:
    """As many threads in this block as pay for a pass of so many samples.

    Args:
        weights: Multiplications of a sample; None where they aren't known.
        samples: Of a pass.
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
        with threads_for(backend.dense_weights, len(obs)):
            return method(backend, obs, *arguments, **options)

    return call  # pyright: ignore[reportReturnType]
