"""What each side has by default, and which of it differs: said before any number.

`torch_facts` and `jax_facts` run in their framework's own process and give plain JSON.
`differences` and `remarks` compare two of them in sentences: dtypes of parameters,
promotion, x64, precision of products, and the conventions of known layers, which have
other defaults (LayerNorm's epsilon is 1e-5 in PyTorch and 1e-6 in flax) or another
meaning (momentum).
Only what can change a result in float64 is said of a layer.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any


Facts = dict[str, Any]
Setting = float | int | str | bool
Layer = tuple[str, dict[str, Setting]]


def torch_facts(subject: object, call: Callable[[], object] | None = None) -> Facts:
    """Facts of PyTorch's side.

    Args:
        subject: an `nn.Module`, or a function.
        call: runs the subject once; functions such as `F.gelu` are found by it.
    """
    import torch

    is_module = isinstance(subject, torch.nn.Module)
    modules = list(subject.modules()) if is_module else []
    layers = [layer for module in modules if (layer := _torch_layer(module))]
    known = {kind for kind, _ in layers}
    called = [] if call is None else _torch_calls(call)
    arrays = dict(subject.named_parameters()) if is_module else {}
    dtypes = {name: _short(array.dtype) for name, array in arrays.items()}
    tf32 = torch.backends.cuda.matmul.allow_tf32
    on_gpu = any(array.is_cuda for array in arrays.values())
    return {
        "framework": "PyTorch",
        "default dtype": _short(torch.get_default_dtype()),
        "x64": True,
        "parameters": dtypes,
        "computation": [],
        "scalars": [name for name, array in arrays.items() if not array.ndim],
        "promotion": _promotions(
            set(dtypes.values()),
            lambda a, b: _short(torch.promote_types(_of(torch, a), _of(torch, b))),
        ),
        "products": "TF32" if on_gpu and tf32 else "float32",
        "convolutions": "TF32"
        if on_gpu and torch.backends.cudnn.allow_tf32
        else "float32",
        "layers": layers,
        "calls": [layer for layer in called if layer[0] not in known],
    }


def jax_facts(subject: object, call: Callable[[], object] | None = None) -> Facts:
    """Facts of JAX's side; see `torch_facts`.

    Args:
        subject: an `nnx.Module`, a pair of linen's module and variables, a module of
            equinox, or a function.
        call: runs the subject once, traced; linen's layers are found by it.
    """
    import jax
    import jax.numpy as jnp

    config = jax.config.values
    found, arrays = _jax_parts(subject)
    layers = [layer for part in found if (layer := _jax_layer(part))]
    gelus: list[Layer] = []
    if call is not None:
        called, gelus = _jax_calls(call)
        found = found + called
        layers += [layer for part in called if (layer := _jax_layer(part))]
    known = {kind for kind, _ in layers}
    dtypes = {name: _short(array.dtype) for name, array in arrays.items()}
    backend = jax.default_backend()
    precision = str(config["jax_default_matmul_precision"] or "default").lower()
    own = {"cpu": "float32", "gpu": "TF32", "tpu": "bfloat16"}.get(backend, "float32")
    products = {"default": own, "high": "TF32", "tensorfloat32": "TF32"}
    computed = {
        jnp.dtype(part.dtype).name
        for part in found
        if getattr(part, "dtype", None) is not None
        and not callable(getattr(part, "shape", None))
        and type(part).__module__.startswith("flax")
    }
    return {
        "framework": "JAX",
        "default dtype": "float64" if config["jax_enable_x64"] else "float32",
        "x64": bool(config["jax_enable_x64"]),
        "parameters": dtypes,
        "computation": sorted(computed),
        "scalars": [name for name, array in arrays.items() if not array.ndim],
        "promotion": _promotions(
            set(dtypes.values()), lambda a, b: jnp.promote_types(a, b).name
        )
        if config["jax_numpy_dtype_promotion"] != "strict"
        else {"all": "strict: an error"},
        "products": products.get(precision, "float32") if backend != "cpu" else own,
        "convolutions": products.get(precision, "float32") if backend != "cpu" else own,
        "layers": layers,
        "calls": [layer for layer in gelus if layer[0] not in known],
    }


def differences(
    torch_side: Mapping[str, Any], jax_side: Mapping[str, Any]
) -> list[str]:
    """What differs, a sentence each; empty if nothing does."""
    said = list(_dtype_differences(torch_side, jax_side))
    for what, name in (("products", "matrix products"), ("convolutions",) * 2):
        if torch_side[what] != jax_side[what]:
            said.append(
                f"{name} run in {torch_side[what]} in PyTorch and in {jax_side[what]} "
                "in JAX"
            )
    return said + _settings(torch_side, jax_side, ("layers",))


def remarks(torch_side: Mapping[str, Any], jax_side: Mapping[str, Any]) -> list[str]:
    """What else may be why results differ: functions that are called, estimators.

    None of it is a setting of a module's, which one would find by reading it.
    """
    settings = _settings(torch_side, jax_side, ("layers",))
    both = _settings(torch_side, jax_side, ("layers", "calls"))
    said = [text for text in both if text not in settings]
    if _trains(torch_side) and _trains(jax_side):
        said.append(
            "BatchNorm: the running variance is that of a sample (divided by n - 1) "
            "in PyTorch and of the batch (by n) in JAX"
        )
    return said


def _settings(
    torch_side: Mapping[str, Any], jax_side: Mapping[str, Any], of: tuple[str, ...]
) -> list[str]:
    ours, theirs = _by_setting(jax_side, of), _by_setting(torch_side, of)
    said = []
    for (kind, name), left in theirs.items():
        right = ours.get((kind, name))
        if right is not None and not _same(left, right):
            said.append(
                f"{kind}: {name} is {_values(left)} in PyTorch and {_values(right)} "
                "in JAX"
            )
    return said


def _dtype_differences(
    torch_side: Mapping[str, Any], jax_side: Mapping[str, Any]
) -> Iterator[str]:
    theirs = set(torch_side["parameters"].values())
    ours = set(jax_side["parameters"].values())
    if theirs and ours and theirs != ours:
        yield f"parameters are {_list(theirs)} in PyTorch and {_list(ours)} in JAX"
    lower = set(jax_side["computation"]) - theirs
    if lower and theirs:
        yield f"flax's layers compute in {_list(lower)}, PyTorch's in {_list(theirs)}"
    if not jax_side["x64"] and "float64" in theirs | {torch_side["default dtype"]}:
        yield (
            "x64 is off in JAX: what is float64 in PyTorch is float32 there "
            "(JAX_ENABLE_X64=1 switches it on)"
        )
    for pair, dtype in torch_side["promotion"].items():
        other = jax_side["promotion"].get(pair, jax_side["promotion"].get("all", dtype))
        if dtype != other:
            yield f"{pair} gives {dtype} in PyTorch and {other} in JAX"
    if len(theirs) > 1 and torch_side["scalars"]:
        yield (
            f"{_list(torch_side['scalars'])} has no axis: PyTorch leaves it out when "
            "it chooses a result's dtype, JAX does not"
        )


def _by_setting(
    facts: Mapping[str, Any], of: tuple[str, ...]
) -> dict[tuple[str, str], list[Setting]]:
    settings: dict[tuple[str, str], list[Setting]] = {}
    for kind, found in (layer for part in of for layer in facts[part]):
        for name, value in found.items():
            settings.setdefault((kind, name), []).append(value)
    return settings


def _trains(facts: Mapping[str, Any]) -> bool:
    found = _by_setting(facts, ("layers",)).get(("BatchNorm", "statistics"), [])
    return "of the batch" in found


def _same(left: list[Setting], right: list[Setting]) -> bool:
    """Whether both sides' layers have the same settings, in any order."""
    if len(left) != len(right):
        # Another number of such layers: the values themselves can still be compared.
        left, right = sorted(set(left), key=str), sorted(set(right), key=str)
    pairs = itertools.zip_longest(sorted(left, key=str), sorted(right, key=str))
    return all(
        abs(a - b) <= 1e-9 * abs(a)
        if isinstance(a, float) and isinstance(b, float)
        else a == b
        for a, b in pairs
    )


def _values(values: list[Setting]) -> str:
    return _list({f"{v:.6g}" if isinstance(v, float) else str(v) for v in values})


def _list(values: set[str] | list[str]) -> str:
    return ", ".join(sorted(values))


def _promotions(
    dtypes: set[str], promoted: Callable[[str, str], str]
) -> dict[str, str]:
    pairs = itertools.combinations(sorted(dtypes), 2)
    return {f"{a} with {b}": promoted(a, b) for a, b in pairs}


def _short(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _of(torch: Any, name: str) -> Any:
    return getattr(torch, name)


def _torch_layer(module: Any) -> Layer | None:
    """A layer's kind and settings, in words that both frameworks share."""
    name = type(module).__name__
    for end in ("1d", "2d", "3d"):
        name = name.removesuffix(end)
    read = _TORCH_LAYERS.get(name)
    return None if read is None else (read[0], read[1](module))


def _torch_batch_norm(m: Any) -> dict[str, Setting]:
    kept = "a cumulative average" if m.momentum is None else 1.0 - m.momentum
    batch = m.training or m.running_mean is None
    return {
        "epsilon": m.eps,
        "share of the old average kept": kept,
        "statistics": "of the batch" if batch else "running",
    }


def _torch_padding(m: Any) -> dict[str, Setting]:
    if isinstance(m.padding, str):
        sides = m.padding.upper()
    else:
        sides = [(p, p) for p in m.padding]
    return {
        "padding": _padding(sides, m.kernel_size, m.stride, m.dilation),
        "stride": str(list(m.stride)),
        "groups": m.groups,
    }


_TORCH_LAYERS: dict[str, tuple[str, Callable[[Any], dict[str, Setting]]]] = {
    "LayerNorm": ("LayerNorm", lambda m: {"epsilon": m.eps}),
    "BatchNorm": ("BatchNorm", _torch_batch_norm),
    "SyncBatchNorm": ("BatchNorm", _torch_batch_norm),
    "GroupNorm": ("GroupNorm", lambda m: {"epsilon": m.eps, "groups": m.num_groups}),
    "InstanceNorm": ("InstanceNorm", lambda m: {"epsilon": m.eps}),
    "RMSNorm": (
        "RMSNorm",
        lambda m: {"epsilon": "that of the dtype" if m.eps is None else m.eps},
    ),
    "GELU": ("GELU", lambda m: {"form": _gelu(m.approximate == "tanh")}),
    "Dropout": ("Dropout", lambda m: _dropout(m.p, m.training)),
    "Conv": ("convolution", _torch_padding),
    "LeakyReLU": ("LeakyReLU", lambda m: {"slope": m.negative_slope}),
    "ELU": ("ELU", lambda m: {"alpha": m.alpha}),
    "CELU": ("CELU", lambda m: {"alpha": m.alpha}),
    "MultiheadAttention": ("attention", lambda m: {"heads": m.num_heads}),
}


def _gelu(approximate: bool) -> str:
    return "approximate (tanh)" if approximate else "exact (erf)"


def _dropout(rate: float, trains: bool) -> dict[str, Setting]:
    return {"rate": float(rate), "active": bool(trains and rate > 0)}


def _padding(sides: Any, window: Any, stride: Any, dilation: Any) -> str:
    """Padding before and after along each axis; `SAME` of a stride as it is called."""
    if isinstance(sides, str):
        if sides == "VALID":
            sides = [(0, 0)] * len(window)
        elif sides == "SAME" and all(s == 1 for s in stride):
            total = [d * (k - 1) for k, d in zip(window, dilation, strict=True)]
            sides = [(t // 2, t - t // 2) for t in total]
        else:
            return sides
    return str([list(side) if side[0] != side[1] else side[0] for side in sides])


def _torch_calls(call: Callable[[], object]) -> list[Layer]:
    """Functions with a convention of their own that one call meets."""
    import torch
    from torch.overrides import TorchFunctionMode

    found: list[Layer] = []

    class Calls(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            name = getattr(func, "__name__", "")
            if name == "gelu":
                form = kwargs.get("approximate", "none")
                found.append(("GELU", {"form": _gelu(form == "tanh")}))
            if name == "layer_norm" and func is torch.nn.functional.layer_norm:
                epsilon = kwargs.get("eps", args[4] if len(args) > 4 else 1e-5)
                found.append(("LayerNorm", {"epsilon": epsilon}))
            return func(*args, **kwargs)

    with torch.no_grad(), Calls():
        call()
    return found


def _jax_parts(subject: object) -> tuple[list[Any], dict[str, Any]]:
    """What a module of any of JAX's libraries is made of, and its arrays by name."""
    import jax

    if isinstance(subject, tuple) and len(subject) == 2:
        leaves = jax.tree_util.tree_flatten_with_path(subject[1])[0]
        return [subject[0]], {jax.tree_util.keystr(path): a for path, a in leaves}
    if type(subject).__module__.startswith("jaxlib") or not hasattr(
        subject, "__dict__"
    ):
        return [], {}
    parts: list[Any] = []
    arrays: dict[str, Any] = {}
    _walk(subject, "", parts, arrays, set())
    return parts, arrays


def _walk(
    value: Any, name: str, parts: list[Any], arrays: dict[str, Any], seen: set[int]
) -> None:
    """Modules, functions that they hold, and floating arrays, in attributes' order."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if hasattr(value, "dtype") and hasattr(value, "ndim"):
        if "float" in str(value.dtype):
            arrays[name.removeprefix(".")] = value
        return
    if _gelu_of(value) is not None or _is_module(value):
        parts.append(value)
    for k, item in _children(value):
        _walk(item, f"{name}.{k}", parts, arrays, seen)


def _children(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, list | tuple) or type(value).__name__ == "List":
        return list(enumerate(value))
    if isinstance(value, dict):
        return list(value.items())
    if _is_module(value):
        return [(k, v) for k, v in vars(value).items() if not k.startswith("_")]
    return []


def _is_module(value: Any) -> bool:
    names = {f"{c.__module__}.{c.__name__}" for c in type(value).__mro__}
    return any(
        name.startswith(("flax.", "equinox.")) and name.endswith(".Module")
        for name in names
    )


def _gelu_of(value: Any) -> bool | None:
    """Whether a function is jax's gelu, and which."""
    settings: dict[str, Any] = {}
    while isinstance(value, functools.partial):
        settings = {**value.keywords, **settings}
        value = value.func
    if getattr(value, "__name__", "") != "gelu" or not callable(value):
        return None
    return bool(settings.get("approximate", True))


def _jax_layer(part: Any) -> Layer | None:
    approximate = _gelu_of(part)
    if approximate is not None:
        return "GELU", {"form": _gelu(approximate)}
    name = type(part).__name__
    for end in ("1d", "2d", "3d"):
        name = name.removesuffix(end)
    read = _JAX_LAYERS.get(name)
    return None if read is None else (read[0], read[1](part))


def _epsilon(m: Any) -> float:
    return float(m.epsilon if hasattr(m, "epsilon") else m.eps)


def _jax_batch_norm(m: Any) -> dict[str, Setting]:
    running = getattr(m, "use_running_average", getattr(m, "inference", False))
    return {
        "epsilon": _epsilon(m),
        "share of the old average kept": float(m.momentum),
        "statistics": "running" if running else "of the batch",
    }


def _groups(m: Any) -> int:
    groups = getattr(m, "num_groups", None)
    return groups if groups is not None else m.groups


def _jax_dropout(m: Any) -> dict[str, Setting]:
    off = getattr(m, "deterministic", getattr(m, "inference", False))
    return _dropout(m.rate if hasattr(m, "rate") else m.p, not off)


def _jax_padding(m: Any) -> dict[str, Setting]:
    window = m.kernel_size if isinstance(m.kernel_size, tuple) else (m.kernel_size,)
    each = lambda v: (v,) * len(window) if isinstance(v, int) else tuple(v or ())
    stride = each(m.strides if hasattr(m, "strides") else m.stride) or each(1)
    dilation = getattr(m, "kernel_dilation", getattr(m, "dilation", 1))
    sides = m.padding
    if isinstance(sides, int):
        sides = [(sides, sides)] * len(window)
    if not isinstance(sides, str):
        sides = [(s, s) if isinstance(s, int) else tuple(s) for s in sides]
    return {
        "padding": _padding(sides, window, stride, each(dilation) or each(1)),
        "stride": str(list(stride)),
        "groups": getattr(m, "feature_group_count", getattr(m, "groups", 1)),
    }


_JAX_LAYERS: dict[str, tuple[str, Callable[[Any], dict[str, Setting]]]] = {
    "LayerNorm": ("LayerNorm", lambda m: {"epsilon": _epsilon(m)}),
    "BatchNorm": ("BatchNorm", _jax_batch_norm),
    "GroupNorm": (
        "GroupNorm",
        lambda m: {"epsilon": _epsilon(m), "groups": _groups(m)},
    ),
    "InstanceNorm": ("InstanceNorm", lambda m: {"epsilon": _epsilon(m)}),
    "RMSNorm": ("RMSNorm", lambda m: {"epsilon": _epsilon(m)}),
    "Dropout": ("Dropout", _jax_dropout),
    "Conv": ("convolution", _jax_padding),
    "MultiHeadAttention": ("attention", lambda m: {"heads": m.num_heads}),
    "MultiHeadDotProductAttention": ("attention", lambda m: {"heads": m.num_heads}),
    "MultiheadAttention": ("attention", lambda m: {"heads": m.num_heads}),
}


def _jax_calls(call: Callable[[], object]) -> tuple[list[Any], list[Layer]]:
    """linen's layers and jax's gelus that one traced call meets."""
    import jax

    modules: list[Any] = []
    trace = jax.make_jaxpr(call)
    try:
        from flax import linen
    except ImportError:
        return [], list(_gelus(trace().jaxpr))

    def met(next_: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and all(
            context.module is not m for m in modules
        ):
            modules.append(context.module)
        return next_(*args, **kwargs)

    with linen.intercept_methods(met):
        jaxpr = trace().jaxpr
    return modules, list(_gelus(jaxpr))


# The cubic term of the approximation, and the argument's factor of the exact form.
_CUBIC, _ROOT_HALF = 0.044715, 0.70710678


def _gelus(jaxpr: Any) -> Iterator[Layer]:
    """jax's gelu leaves no name behind: known by its numbers."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        constants = [getattr(v, "val", None) for v in equation.invars]
        if name == "mul" and any(_is(c, _CUBIC) for c in constants):
            yield "GELU", {"form": _gelu(True)}
        if name == "mul" and any(_is(c, _ROOT_HALF) for c in constants):
            used = {e.primitive.name for e in jaxpr.eqns}
            if used & {"erf", "erfc"}:
                yield "GELU", {"form": _gelu(False)}
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from _gelus(inner)


def _is(constant: Any, number: float) -> bool:
    # A bfloat16 keeps three digits.
    return (
        getattr(constant, "ndim", 1) == 0 and abs(float(constant) / number - 1) < 5e-3
    )
