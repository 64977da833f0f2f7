"""Faults in a PyTorch function: one call that it makes gives another result.

The calls are met by a `TorchFunctionMode`, above autograd, so that derivatives are
those of the faulty function.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from parity_kit.faults.fault import (
    AXIS,
    BFLOAT16,
    BIAS,
    EPSILON,
    FACTOR,
    GELU,
    LAST_ROW,
    MEAN,
    SMALL,
    STOPPED,
    SWAPPED,
    TRANSPOSE,
    Fault,
)


# A call: (function, its name, arguments, keywords). A fault's result, or None where the
# call can't have it.
Call = tuple[Callable, str, tuple, dict[str, Any]]
Result = Callable[[], Any]

COMPUTED = {
    "add", "addmm", "baddbmm", "batch_norm", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "bmm", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cos",
    "cosine_similarity", "cross_entropy", "div", "einsum", "elu", "embedding", "erf",
    "exp", "gelu", "group_norm", "gru", "gru_cell", "hardswish", "huber_loss",
    "instance_norm", "kl_div", "l1_loss", "layer_norm", "leaky_relu", "linear", "log",
    "log1p", "log_softmax", "logsumexp", "lstm", "lstm_cell", "matmul", "mean", "mm",
    "mse_loss", "mul", "multi_head_attention_forward", "mv", "nll_loss", "normalize",
    "pow", "prelu", "relu", "rms_norm", "rnn_relu", "rnn_tanh", "rsqrt",
    "scaled_dot_product_attention", "selu", "sigmoid", "silu", "sin", "smooth_l1_loss",
    "softmax", "softplus", "sqrt", "square", "std", "sub", "sum", "tanh", "var",
}  # fmt: skip
DIFFERENCES = {"sub", "rsub", "subtract"}
TRANSPOSES = {"transpose", "permute", "t", "swapaxes", "T", "mT", "movedim"}
REDUCTIONS = {"sum", "mean", "var", "std", "logsumexp", "prod", "amax", "argmax"}
PRODUCTS = {"matmul", "mm", "linear", "bmm"}
KEEPS_SHAPE = {"softmax", "log_softmax", "cumsum", "flip", "roll", "normalize"}
# Functions with parameters after the input -> which of them are bias and epsilon.
BIASES = {
    "linear": 2, "conv1d": 2, "conv2d": 2, "conv3d": 2, "conv_transpose1d": 2,
    "conv_transpose2d": 2, "conv_transpose3d": 2, "layer_norm": 3, "group_norm": 3,
    "batch_norm": 4, "instance_norm": 4,
}  # fmt: skip
EPSILONS = {
    "layer_norm": 4, "group_norm": 4, "batch_norm": 7, "instance_norm": 7,
    "rms_norm": 3, "normalize": 3, "cosine_similarity": 3,
}  # fmt: skip
DEFAULT_EPSILONS = {"normalize": 1e-12, "cosine_similarity": 1e-8}


def places(function: Callable, *args: Any) -> list[Fault]:
    """All faults that can be planted in `function(*args)`, which is run once."""
    mode = _Calls()
    with mode:
        function(*args)
    return mode.found


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Within it the function, run once, has the fault; run again, enter it again."""
    with _Planted(fault):
        yield


class _Calls(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Fault] = []
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        call = (func, _name(func), args, kwargs or {})
        others = {kind: faulty(call) for kind, faulty in FAULTS.items()}
        result = func(*args, **call[3])
        for kind, other in others.items():
            if other is not None and _matters(kind, result, other):
                place = f"{call[1]} at {_line()}"
                self.found.append(Fault(kind, place, self.count))
        self.count += 1
        return result


class _Planted(TorchFunctionMode):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault, self.count = fault, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        call = (func, _name(func), args, kwargs or {})
        here = self.count == self.fault.index
        self.count += 1
        other = FAULTS[self.fault.kind](call) if here else None
        return func(*args, **call[3]) if other is None else other()


def _name(func: Any) -> str:
    """The operation's name; of a property the property's."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(func.__self__, "__name__", "")
    return name.strip("_")


def _matters(kind: str, result: Any, faulty: Result) -> bool:
    """Whether the fault changes the result, and can be computed at all."""
    if kind in (STOPPED, BIAS):  # Seen in gradients, even where the values are equal.
        return True
    try:
        with torch.no_grad():
            other = faulty()
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    result, other = _first(result), _first(other)
    return result.shape == other.shape and not torch.equal(result, other)


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def _line() -> str:
    """The innermost line that belongs to neither PyTorch nor the kit."""
    frame = sys._getframe(2)
    inner = frame
    library = os.path.dirname(torch.__file__)
    while frame is not None and frame.f_code.co_filename.startswith(library):
        inner, frame = frame, frame.f_back
    if frame is None or "parity_kit" in frame.f_code.co_filename:
        frame = inner
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _argument(call: Call, position: int, *names: str) -> Any:
    _, _, args, kwargs = call
    if len(args) > position:
        return args[position]
    return next((kwargs[name] for name in names if name in kwargs), None)


def _again(call: Call, position: int, name: str, value: Any) -> Result:
    """The call with another argument."""
    func, _, args, kwargs = call
    if len(args) > position:
        args = (*args[:position], value, *args[position + 1 :])
    else:
        kwargs = {**kwargs, name: value}
    return lambda: func(*args, **kwargs)


def _swapped(call: Call) -> Result | None:
    func, name, args, kwargs = call
    if name not in DIFFERENCES:
        return None
    return lambda: -func(*args, **kwargs)


def _without_bias(call: Call) -> Result | None:
    _, name, args, _ = call
    if name in BIASES:
        bias = _argument(call, BIASES[name], "bias")
        return None if bias is None else _again(call, BIASES[name], "bias", None)
    if name != "add" or not all(isinstance(a, Tensor) for a in args[:2]):
        return None
    one, two = sorted(args[:2], key=lambda a: a.numel())
    if not one.ndim or one.numel() == two.numel():
        return None
    # What is smaller is added to each row.
    return lambda: two.clone()


def _other_axis(call: Call) -> Result | None:
    func, name, args, kwargs = call
    if name not in REDUCTIONS | KEEPS_SHAPE or not args or args[0].ndim < 2:
        return None
    x = args[0]
    at = 2 if name == "normalize" else 1
    names = ("dim", "axis", "dims")
    dim = _argument(call, at, *names)
    dim = dim[0] if isinstance(dim, list | tuple) and len(dim) == 1 else dim
    if not isinstance(dim, int) or isinstance(dim, bool):
        return None
    key = next((n for n in names if n in kwargs), "dim")
    dim %= x.ndim
    others = [d for d in range(x.ndim) if d != dim and x.shape[d] > 1]
    same = [d for d in others if x.shape[d] == x.shape[dim]]
    if not others:
        return None
    again = _again(call, at, key, (same or others)[0])
    shape = func(*args, **kwargs).shape
    return lambda: _resized(again(), shape)


def _resized(x: Tensor, shape: torch.Size) -> Tensor:
    """The values of x in another shape, repeated as often as it takes."""
    flat, count = x.reshape(-1), shape.numel()
    return flat.repeat(-(-count // flat.numel()))[:count].reshape(shape)


def _mean_for_sum(call: Call) -> Result | None:
    func, name, args, kwargs = call
    if name == "sum":
        result = func(*args, **kwargs)
        share = result.numel() / max(args[0].numel(), 1)
        return lambda: func(*args, **kwargs) * share
    if name == "mean":
        share = args[0].numel() / max(func(*args, **kwargs).numel(), 1)
        return lambda: func(*args, **kwargs) * share
    if kwargs.get("reduction") in ("mean", "sum"):
        other = {"mean": "sum", "sum": "mean"}[kwargs["reduction"]]
        return lambda: func(*args, **{**kwargs, "reduction": other})
    return None


def _larger_epsilon(call: Call) -> Result | None:
    _, name, args, kwargs = call
    if name in EPSILONS:
        at = EPSILONS[name]
        epsilon = _argument(call, at, "eps")
        if epsilon is None and name == "rms_norm":
            epsilon = torch.finfo(args[0].dtype).eps
        epsilon = DEFAULT_EPSILONS.get(name, 1e-5) if epsilon is None else epsilon
        return _again(call, at, "eps", 10 * epsilon)
    if name in ("add", "radd", "clamp", "clamp_min"):
        key = "min" if "min" in kwargs else "other"
        for i, value in [*enumerate(args), (len(args), kwargs.get(key))]:
            if isinstance(value, float) and 0 < value <= SMALL:
                return _again(call, i, key, 10 * value)
    return None


def _other_gelu(call: Call) -> Result | None:
    func, name, args, kwargs = call
    if name != "gelu":
        return None
    exact = kwargs.get("approximate", "none") == "none"
    form = "tanh" if exact else "none"
    return lambda: func(*args, **{**kwargs, "approximate": form})


def _not_transposed(call: Call) -> Result | None:
    func, name, args, kwargs = call
    if name in TRANSPOSES:
        shape = func(*args, **kwargs).shape
        # Where the sizes differ: read in the old order, as `reshape` does.
        return lambda: args[0].reshape(shape)
    if name in PRODUCTS and len(args) > 1:
        weight = args[1]
        if weight.ndim >= 2 and weight.shape[-1] == weight.shape[-2]:
            return _again(call, 1, "weight", weight.mT)
    return None


def _computed(call: Call) -> bool:
    _, name, args, _ = call
    if name not in COMPUTED:
        return False
    first = next((a for a in args if isinstance(a, Tensor)), None)
    return first is None or first.is_floating_point() or name == "embedding"


def _of_result(change: Callable[[Tensor], Tensor]) -> Callable[[Call], Result | None]:
    """A fault of any computed result, of the first one if there are several."""

    def faulty(call: Call) -> Result | None:
        func, _, args, kwargs = call
        if not _computed(call):
            return None

        def run() -> Any:
            result = func(*args, **kwargs)
            if isinstance(result, tuple):
                return (change(result[0]), *result[1:])
            return change(result)

        return run

    return faulty


def _not_stopped(call: Call) -> Result | None:
    func, name, args, _ = call
    if name in ("detach", "data"):
        return (lambda: args[0].view_as(args[0])) if args[0].requires_grad else None
    if name == "set_grad_enabled" and args == (False,) and torch.is_grad_enabled():
        return lambda: func(True)
    return None


def _without_last(call: Call) -> Result | None:
    func, name, args, kwargs = call
    if name in ("sum", "mean") and args[0].ndim:
        dim = _argument(call, 1, "dim", "axis")
        dim = dim[0] if isinstance(dim, list | tuple) and dim else dim
        axis = dim if isinstance(dim, int) and not isinstance(dim, bool) else 0
        size = args[0].shape[axis]
        if size < 2:
            return None
        return lambda: func(args[0].narrow(axis, 0, size - 1), *args[1:], **kwargs)
    if name in PRODUCTS and len(args) > 1:
        size = args[0].shape[-1] if args[0].ndim else 0
        axis = -1 if name == "linear" or args[1].ndim == 1 else -2
        if size < 2:
            return None
        return lambda: func(
            args[0].narrow(-1, 0, size - 1),
            args[1].narrow(axis, 0, size - 1),
            *args[2:],
            **kwargs,
        )
    if name.endswith("_loss") or name == "cross_entropy":
        rows = [a for a in args if isinstance(a, Tensor) and a.ndim]
        if len(rows) >= 2 and len(rows[0]) == len(rows[1]) > 1:
            return lambda: func(rows[0][:-1], rows[1][:-1], *args[2:], **kwargs)
    return None


FAULTS: dict[str, Callable[[Call], Result | None]] = {
    SWAPPED: _swapped,
    BIAS: _without_bias,
    AXIS: _other_axis,
    MEAN: _mean_for_sum,
    EPSILON: _larger_epsilon,
    GELU: _other_gelu,
    TRANSPOSE: _not_transposed,
    BFLOAT16: _of_result(lambda x: x.to(torch.bfloat16).to(x.dtype)),
    FACTOR: _of_result(lambda x: x * 1.01),
    STOPPED: _not_stopped,
    LAST_ROW: _without_last,
}
