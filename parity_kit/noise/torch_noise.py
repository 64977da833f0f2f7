"""Monte-Carlo arithmetic of any PyTorch code (Parker 1997).

Every operation that rounds has its result changed by one unit roundoff, in the forward
pass, the backward pass and the optimiser's step alike, since all reach the dispatcher.
Layers that the dispatcher sees as one operation are taken apart first. A sum or product
over K terms gets noise on its running total after every 64 terms and once more on the
result. As these errors only add up, they are drawn at once: with T_b the total after
block b, their sum is a normal number of variance unit² (ΣT_b² + T²). What a power of
two scales, and a sum of one term, is not rounded.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


aten: Any = torch.ops.aten
UNIT_ROUNDOFF_32 = 2.0**-24
# Terms that a product or sum adds up before its simulated running total is rounded.
BLOCK = 64

# Results that are chosen, moved or counted from what is there, not computed.
EXACT = {
    "_conj", "_local_scalar_dense", "_pin_memory", "_reshape_alias", "_to_copy",
    "_unsafe_index", "_unsafe_masked_index", "_unsafe_view", "abs", "alias", "amax",
    "amin", "aminmax", "arange", "argmax", "argmin", "argsort", "as_strided",
    "atleast_1d", "bernoulli", "broadcast_in_dim", "broadcast_to", "bucketize", "cat",
    "ceil", "channel_shuffle", "chunk", "clamp", "clamp_max", "clamp_min", "clone",
    "complex", "constant_pad_nd", "contiguous", "convert_element_type", "copy",
    "copysign", "cummax", "cummin", "detach", "diag", "diag_embed", "diagonal",
    "diagonal_backward", "diagonal_scatter", "dropout", "embedding", "empty",
    "empty_like", "empty_strided", "expand", "exponential", "eye", "fill", "flip",
    "floor", "floor_divide", "fmax", "fmin", "full", "full_like", "gather",
    "hardshrink", "hardtanh", "hardtanh_backward", "im2col", "imag", "index",
    "index_copy", "index_fill", "index_put", "index_select", "isfinite", "isinf",
    "isnan", "kthvalue", "lift", "lift_fresh", "linspace", "masked_fill",
    "masked_scatter", "masked_select", "max", "max_pool1d", "max_pool2d",
    "max_pool2d_with_indices", "max_pool3d_with_indices", "maximum", "median", "min",
    "minimum", "mode", "movedim", "nan_to_num", "neg", "new_empty", "new_empty_strided",
    "new_full", "new_ones", "new_zeros", "nextafter", "nonzero", "normal", "ones",
    "ones_like", "permute", "pixel_shuffle", "pixel_unshuffle", "put", "rand",
    "rand_like", "randint", "randn", "randn_like", "randperm", "real",
    "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "relu", "repeat",
    "replication_pad1d", "replication_pad2d", "replication_pad3d", "reshape", "resize",
    "resolve_conj", "resolve_neg", "roll", "rot90", "round", "scalar_tensor", "scatter",
    "select", "select_backward", "select_scatter", "sgn", "sign", "slice",
    "slice_backward", "slice_scatter", "sort", "split", "split_copy",
    "split_with_sizes", "squeeze", "stack", "swapaxes", "t", "take", "take_along_dim",
    "threshold", "threshold_backward", "topk", "transpose", "tril", "triu", "trunc",
    "unbind", "unfold", "uniform", "unsafe_split", "unsafe_split_with_sizes",
    "unsqueeze", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "view", "view_as_complex", "view_as_real", "where", "zero", "zeros", "zeros_like",
}  # fmt: skip

# Layers and losses of which each step is to get its own noise.
_COMPOSITE = (
    "native_layer_norm", "native_layer_norm_backward", "native_group_norm",
    "native_group_norm_backward", "native_batch_norm", "native_batch_norm_backward",
    "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit_functional", "_fused_rms_norm",
    "_fused_rms_norm_backward", "_softmax", "_log_softmax", "_safe_softmax",
    "_softmax_backward_data", "_log_softmax_backward_data", "logsumexp", "var", "std",
    "var_mean", "std_mean", "mse_loss", "mse_loss_backward", "smooth_l1_loss",
    "smooth_l1_loss_backward", "huber_loss", "huber_loss_backward", "nll_loss_forward",
    "nll_loss_backward", "binary_cross_entropy", "binary_cross_entropy_backward",
    "binary_cross_entropy_with_logits", "soft_margin_loss", "soft_margin_loss_backward",
    "gelu_backward", "silu_backward", "mish_backward", "sigmoid_backward",
    "tanh_backward", "elu_backward", "hardswish_backward", "softplus_backward",
    "log_sigmoid_backward", "glu", "glu_backward", "_euclidean_dist", "dist",
    "pairwise_distance", "renorm", "addcmul", "addcdiv", "addr", "lerp", "xlogy",
    "linalg_cross", "cudnn_batch_norm", "cudnn_batch_norm_backward",
    "_adaptive_avg_pool2d",
)  # fmt: skip
_DECOMPOSITIONS: dict[Any, Callable] = get_decompositions(
    [getattr(aten, name) for name in _COMPOSITE if hasattr(aten, name)]
)


def _var(
    x: Tensor, dim: Any = None, correction: Any = None, keepdim: bool = False
) -> Tensor:
    return _var_mean(x, dim, correction=correction, keepdim=keepdim)[0]


def _var_mean(
    x: Tensor, dim: Any = None, correction: Any = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    axes = list(range(x.ndim)) if dim is None or dim == [] else dim
    mean = x.mean(axes, keepdim=True)
    count = x.numel() // max(mean.numel(), 1)
    centered = (x - mean).abs().square().sum(axes, keepdim=keepdim)
    freedom = max(count - (1 if correction is None else correction), 0)
    return centered / freedom, mean if keepdim else mean.reshape(centered.shape)


# The variance's own decomposition is one operation again.
_DECOMPOSITIONS |= {
    aten.var.correction: _var,
    aten.var_mean.correction: _var_mean,
    aten.std.correction: lambda *a, **k: _var(*a, **k).sqrt(),
}


@contextlib.contextmanager
def rounding_noise(seed: int, unit: float = UNIT_ROUNDOFF_32) -> Iterator[None]:
    """Within it, results are rounded as if in a shorter precision.

    Arrays should have a longer one, float64: others have no room for the noise and
    are left alone.

    Args:
        seed: of the noise.
        unit: its relative size, 2**-24 for float32.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # Fused attention has no parts that could get noise of their own.
        with (
            sdpa_kernel(SDPBackend.MATH),
            torch.compiler.set_stance("force_eager"),
            _Noise(seed, unit),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Noise(TorchDispatchMode):
    def __init__(self, seed: int, unit: float) -> None:
        super().__init__()
        self.seed, self.unit = seed, unit
        self.generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        in_place = name.endswith("_") and not name.startswith("__")
        if func in _DECOMPOSITIONS and self._concerns(args):
            with self:
                return _DECOMPOSITIONS[func](*args, **kwargs)
        spread = None
        if name in _SPREADS and self._concerns(args):
            spread = _SPREADS[name]
        if name.startswith(("linalg_", "_linalg", "cholesky", "triangular_solve")):
            # Stable algorithms give the exact result of a matrix nearby.
            args, kwargs = tree_map(self._nearby, (args, kwargs))
        before = args[0].clone() if spread and in_place else None
        result = func(*args, **kwargs)
        if func.is_view or _is_exact(func, name.rstrip("_"), args, result):
            return result
        if spread is not None:
            given = args if before is None else (before, *args[1:])
            self._add(result, spread(*given, **_known(kwargs)))
        elif name.startswith("_fft_"):
            # Errors of all coefficients are alike, as large as their mean.
            self._add(result, (result.abs() ** 2).mean().expand_as(result))
        elif in_place or any(_written(a) for a in func._schema.arguments):
            self._round_written(func, args, kwargs)
        else:
            self._round(result)
        return result

    def _concerns(self, args: Any) -> bool:
        """Whether some array has room for the noise."""
        flat = tree_leaves(args)
        return any(isinstance(a, Tensor) and self._fits(a) for a in flat)

    def _fits(self, tensor: Tensor) -> bool:
        dtype = tensor.dtype
        wide = dtype.is_floating_point or dtype.is_complex
        if not wide or tensor._is_zerotensor() or not tensor.numel():
            return False
        return torch.finfo(dtype).eps < self.unit

    def _round_written(self, func: Any, args: Any, kwargs: Any) -> None:
        for i, argument in enumerate(func._schema.arguments):
            if _written(argument):
                given = args[i] if i < len(args) else kwargs.get(argument.name)
                self._round(given)

    def _round(self, result: Any) -> None:
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and self._fits(tensor):
                tensor.mul_(1.0 + self.unit * self._normal(tensor))

    def _nearby(self, argument: Any) -> Any:
        if not isinstance(argument, Tensor) or not self._fits(argument):
            return argument
        return argument * (1.0 + self.unit * self._normal(argument))

    def _add(self, results: Any, squares: Any) -> None:
        """Noise of variance unit² * squares, a tensor for each result."""
        results = results if isinstance(results, tuple | list) else (results,)
        squares = squares if isinstance(squares, tuple | list) else (squares,)
        for result, square in zip(results, squares, strict=True):
            if square is not None and isinstance(result, Tensor) and self._fits(result):
                deviation = square.to(result.dtype).sqrt_().reshape(result.shape)
                result.add_(deviation * self._normal(result), alpha=self.unit)

    def _normal(self, like: Tensor) -> Tensor:
        generator = self.generators.get(like.device)
        if generator is None:
            generator = torch.Generator(like.device).manual_seed(self.seed * 7919 + 24)
            self.generators[like.device] = generator
        # Seven digits of randomness are plenty, at half the time.
        return torch.randn(
            like.shape, generator=generator, device=like.device, dtype=torch.float32
        ).to(torch.float64)


def _is_exact(func: Any, name: str, args: Any, result: Any) -> bool:
    """Whether nothing is computed, or the result has an operand's own digits."""
    if name in EXACT or func.namespace not in ("aten", "prims"):
        return True
    if name in ("sum", "mean"):
        return args[0].numel() == result.numel()
    if name not in ("mul", "div", "true_divide"):
        return False
    factors = [float(a) for a in args[name != "mul" :] if _is_number(a)]
    return any(abs(math.frexp(factor)[0]) == 0.5 for factor in factors)


def _is_number(a: Any) -> bool:
    if isinstance(a, Tensor):
        return not a.ndim and a.device.type == "cpu" and not a.is_complex()
    return isinstance(a, int | float)


def _written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _known(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {
        k: v for k, v in kwargs.items() if k not in ("out", "dtype", "output_dtype")
    }


Totals = Callable[[int, int], Tensor]


def _totals(terms: int, part: Totals) -> Tensor:
    """Σ T_b² over the noisy running totals, and once more the last: [..., result].

    `part(start, end)` is the sum of terms start..end. The first block is no total yet.
    """
    total = part(0, min(BLOCK, terms))
    squares = torch.zeros_like(total)
    for start in range(BLOCK, terms, BLOCK):
        total = total + part(start, min(start + BLOCK, terms))
        squares += total.abs() ** 2
    return squares + total.abs() ** 2


def _mm(a: Tensor, b: Tensor) -> Tensor:
    return _totals(a.shape[-1], lambda i, j: a[..., i:j] @ b[..., i:j, :])


def _mv(a: Tensor, b: Tensor) -> Tensor:
    return _mm(a, b[:, None])[..., 0]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return _mm(a[None], b[:, None])[0, 0]


def _addmm(
    c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Any:
    """The running totals, and the result with what is added to it."""
    totals = _mm(a, b) * alpha**2
    return totals + (beta * c + alpha * (a @ b)).abs() ** 2


def _addmv(
    c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Any:
    return _mv(a, b) * alpha**2 + (beta * c + alpha * (a @ b)).abs() ** 2


def _sum(x: Tensor, dims: Any = None, keepdim: bool = False) -> Tensor:
    """Blocks by one reshape and cumulative sum, their totals squared."""
    if not x.ndim:
        return x.abs() ** 2
    axes = sorted(d % x.ndim for d in _dims(dims, x.ndim))
    kept = [d for d in range(x.ndim) if d not in axes]
    rows = x.permute(*kept, *axes).reshape(*(x.shape[d] for d in kept), -1)
    blocks = -(-rows.shape[-1] // BLOCK)
    padded = torch.nn.functional.pad(rows, (0, blocks * BLOCK - rows.shape[-1]))
    parts = padded.reshape(*rows.shape[:-1], blocks, BLOCK).sum(-1)
    squares = parts.cumsum(-1).abs() ** 2
    squares = squares[..., 1:].sum(-1) + squares[..., -1]
    if keepdim:
        for axis in axes:
            squares = squares.unsqueeze(axis)
    return squares


def _dims(dims: Any, ndim: int) -> Any:
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        return range(ndim)
    return (dims,) if isinstance(dims, int) else dims


def _mean(x: Tensor, dims: Any = None, keepdim: bool = False) -> Tensor:
    squares = _sum(x, dims, keepdim)
    return squares * (squares.numel() / x.numel()) ** 2


def _norm(x: Tensor, ord: Any = 2, dims: Any = None, keepdim: bool = False) -> Tensor:
    """d(sqrt(s)) = ds / (2 sqrt(s)), and the root's own noise."""
    norm = torch.linalg.vector_norm(x, ord, dims, keepdim)
    if ord != 2:
        return norm**2
    squares = _sum(x.abs() ** 2, dims, keepdim) / (4.0 * norm**2).clamp_min(1e-300)
    return squares + norm**2


def _cumsum(x: Tensor, dim: int) -> Tensor:
    """The running total is rounded at each 64th term; all later ones inherit it."""
    totals = x.cumsum(dim).abs() ** 2
    at_block = torch.arange(x.shape[dim], device=x.device) % BLOCK == BLOCK - 1
    shape = [1] * x.ndim
    shape[dim] = -1
    return (totals * at_block.reshape(shape)).cumsum(dim) + totals


def _convolution(
    x: Tensor, w: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int,
) -> Tensor:  # fmt: skip
    """Terms in blocks of whole input channels."""
    options = (stride, padding, dilation, transposed, output_padding, groups)
    whole = torch.convolution(x, w, bias, *options).abs() ** 2
    if groups > 1:
        return whole
    axis = 0 if transposed else 1
    window = w[0, 0].numel()

    def part(i: int, j: int) -> Tensor:
        piece = w.narrow(axis, i, j - i)
        return torch.convolution(x.narrow(1, i, j - i), piece, None, *options)

    return whole + _wide_totals(x.shape[1], window, part)


def _wide_totals(count: int, width: int, part: Totals) -> Tensor:
    """`_totals` of items that are `width` terms each, the last one left out."""
    per_block, repeats = max(1, BLOCK // width), max(1, width // BLOCK)
    total = part(0, min(per_block, count))
    squares = (repeats - 1) * total.abs() ** 2
    for start in range(per_block, count, per_block):
        total = total + part(start, min(start + per_block, count))
        squares = squares + repeats * total.abs() ** 2
    return squares


def _convolution_backward(
    d: Tensor, x: Tensor, w: Tensor, bias: Any, *options: Any
) -> list[Tensor | None]:
    """Of the input over output channels, of the weight and bias over samples."""
    *shared, groups, mask = options
    backward = aten.convolution_backward.default
    whole = backward(d, x, w, bias, *shared, groups, mask)
    squares: list[Any] = [None if r is None else r.abs() ** 2 for r in whole]
    if groups > 1:
        return squares
    transposed = shared[3]

    def of_input(i: int, j: int) -> Tensor:
        piece = w.narrow(1 if transposed else 0, i, j - i)
        sides = (d.narrow(1, i, j - i), x, piece, None, *shared, 1)
        return backward(*sides, [True, False, False])[0]

    def of_weight(i: int, j: int) -> Tensor:
        return backward(d[i:j], x[i:j], w, None, *shared, 1, [False, True, False])[1]

    if mask[0]:
        squares[0] = squares[0] + _wide_totals(d.shape[1], w[0, 0].numel(), of_input)
    if mask[1]:
        places = (x if transposed else d)[0, 0].numel()
        squares[1] = squares[1] + _wide_totals(x.shape[0], places, of_weight)
    if mask[2]:
        squares[2] = _sum(d, [0, *range(2, d.ndim)])
    return squares


_SPREADS: dict[str, Callable[..., Any]] = {
    "mm": _mm,
    "bmm": _mm,
    "mv": _mv,
    "dot": _dot,
    "vdot": _dot,
    "addmm": _addmm,
    "addmm_": _addmm,
    "baddbmm": _addmm,
    "baddbmm_": _addmm,
    "addmv": _addmv,
    "addmv_": _addmv,
    "sum": _sum,
    "mean": _mean,
    "linalg_vector_norm": _norm,
    "cumsum": _cumsum,
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
}
