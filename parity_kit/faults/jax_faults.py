"""Faults in a JAX function: one equation of its jaxpr gives another result.

Equations within loops, branches and functions of their own have faults too. The faulty
function is evaluated from its jaxpr, so that it can be differentiated and compiled; an
outer function loses a rule of its own for derivatives only if the fault lies within it.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

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


COMPUTED = {
    "add", "conv_general_dilated", "cos", "cumsum", "div", "dot_general", "erf", "erfc",
    "exp", "exp2", "expm1", "integer_pow", "log", "log1p", "logistic", "max", "mul",
    "pow", "reduce_max", "reduce_sum", "rsqrt", "sin", "sqrt", "square", "sub", "tanh",
}  # fmt: skip
REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod"}
# From the maximum of a row to where its gradient is stopped.
MAXIMUM = {
    "reduce_max", "broadcast_in_dim", "max", "select_n", "reshape", "stop_gradient",
    "is_finite",
}  # fmt: skip
EVEN = {"square", "abs", "cos"}
ROOT_2_OVER_PI = math.sqrt(2.0 / math.pi)


class Site(NamedTuple):
    """One equation: its place in its jaxpr, and who makes and uses its values."""

    equation: Any
    made_by: dict[Any, Any]
    users: dict[Any, list]

    def source(self, position: int) -> Any:
        """The equation that made an operand, if one did."""
        variable = self.equation.invars[position]
        return None if isinstance(variable, Literal) else self.made_by.get(variable)

    def scalar(self, position: int) -> float | None:
        """An operand's value if it is a constant of the source."""
        value = getattr(self.equation.invars[position], "val", None)
        return None if value is None or np.ndim(value) else float(value)

    @property
    def name(self) -> str:
        """Of the primitive."""
        return self.equation.primitive.name

    def shape(self, position: int) -> tuple[int, ...]:
        """Of an operand."""
        return self.equation.invars[position].aval.shape


Faulty = Callable[[list], Any]


def places(function: Callable, *args: Any) -> list[Fault]:
    """All faults that can be planted in `function(*args)`, which is traced once."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return [
        Fault(kind, f"{site.name} at {_line(site.equation)}", index)
        for index, site in enumerate(_sites(jaxpr))
        if not _cancels(site)
        for kind, faulty in FAULTS.items()
        if faulty(site) is not None
    ]


def planted(function: Callable, fault: Fault) -> Callable:
    """The function with the fault."""

    @functools.wraps(function)
    def faulty(*args: Any, **kwargs: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
        sites = list(_sites(closed.jaxpr))
        site = sites[fault.index]
        run = _Run(site.equation, FAULTS[fault.kind](site))
        flat = jax.tree.leaves((args, kwargs))
        results = run.evaluate(closed.jaxpr, closed.consts, flat)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return faulty


def _cancels(site: Site) -> bool:
    """Whether it is a softmax's maximum, which has no part in the softmax."""
    users = [site.equation]
    while users and all(u.primitive.name in MAXIMUM for u in users):
        if any(u.primitive.name == "stop_gradient" for u in users):
            return site.name != "stop_gradient" or _follows_maximum(site)
        users = [v for u in users for v in site.users.get(u.outvars[0], [])]
    return False


def _follows_maximum(site: Site) -> bool:
    source = site.source(0)
    while source is not None and source.primitive.name in MAXIMUM:
        if source.primitive.name == "reduce_max":
            return True
        operands = [v for v in source.invars if not isinstance(v, Literal)]
        source = site.made_by.get(operands[-1]) if operands else None
    return False


def _sites(jaxpr: Jaxpr) -> Iterator[Site]:
    """All equations in the order in which they are written."""
    made_by = {v: e for e in jaxpr.eqns for v in e.outvars}
    users: dict[Any, list] = {}
    for equation in jaxpr.eqns:
        for variable in equation.invars:
            if not isinstance(variable, Literal):
                users.setdefault(variable, []).append(equation)
    for equation in jaxpr.eqns:
        yield Site(equation, made_by, users)
        for inner in _inner(equation):
            yield from _sites(inner)


def _inner(equation: Any) -> Iterator[Jaxpr]:
    if equation.primitive.name == "custom_linear_solve":
        return
    for key, value in equation.params.items():
        if key in ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "jvp_jaxpr_thunk"):
            continue
        for part in value if isinstance(value, tuple | list) else (value,):
            inner = part.jaxpr if isinstance(part, ClosedJaxpr) else part
            if isinstance(inner, Jaxpr):
                yield inner


def _line(equation: Any) -> str:
    # Not public; a source line is worth more than a name alone.
    from jax._src import source_info_util

    line = source_info_util.summarize(equation.source_info).rpartition("/")[2]
    return line or "a line of a library"


class _Run:
    """Evaluates a jaxpr with one of its equations, however deep, replaced."""

    def __init__(self, target: Any, faulty: Faulty | None) -> None:
        assert faulty is not None, "the fault was listed for this equation"
        self.target = target
        self.faulty: Faulty = faulty

    def holds(self, jaxpr: Jaxpr) -> bool:
        """Whether the equation is somewhere in it."""
        return any(site.equation is self.target for site in _sites(jaxpr))

    def evaluate(self, jaxpr: Jaxpr, consts: Sequence, args: Sequence) -> list:
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values |= dict(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            results = self.equation(equation, given)
            values |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def closed(self, closed: Any, args: Sequence) -> list:
        if isinstance(closed, ClosedJaxpr):
            return self.evaluate(closed.jaxpr, closed.consts, args)
        return self.evaluate(closed, (), args)

    def equation(self, equation: Any, given: list) -> list:
        name, params = equation.primitive.name, equation.params
        if equation is self.target:
            like = equation.outvars[0].aval
            return [jnp.asarray(self.faulty(given), like.dtype)]
        if any(self.holds(inner) for inner in _inner(equation)):
            if name in _FLOW:
                return _FLOW[name](self, params, given)
            inner = params.get("jaxpr", params.get("call_jaxpr"))
            return self.closed(inner, given)
        # As `eval_jaxpr` does, which keeps rules of their own.
        bound = equation.primitive.get_bind_params(params)
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        results = equation.primitive.bind(*functions, *given, **params)
        return list(results) if equation.primitive.multiple_results else [results]


def _scan(run: _Run, params: dict, given: list) -> list:
    fixed, held = params["num_consts"], params["num_carry"]
    consts, rest = given[:fixed], given[fixed:]

    def body(carry: list, x: list) -> tuple:
        outs = run.closed(params["jaxpr"], [*consts, *carry, *x])
        return outs[:held], outs[held:]

    carry, ys = lax.scan(
        body, rest[:held], rest[held:], params["length"], params["reverse"]
    )
    return [*carry, *ys]


def _while(run: _Run, params: dict, given: list) -> list:
    n, m = params["cond_nconsts"], params["body_nconsts"]
    of_cond, of_body, carry = given[:n], given[n : n + m], given[n + m :]
    return lax.while_loop(
        lambda carry: run.closed(params["cond_jaxpr"], [*of_cond, *carry])[0],
        lambda carry: run.closed(params["body_jaxpr"], [*of_body, *carry]),
        carry,
    )


def _cond(run: _Run, params: dict, given: list) -> list:
    index, *operands = given
    branches = [
        functools.partial(lambda branch, *args: run.closed(branch, args), branch)
        for branch in params["branches"]
    ]
    return lax.switch(index, branches, *operands)


_FLOW: dict[str, Callable] = {"scan": _scan, "while": _while, "cond": _cond}


def _run(site: Site, given: list) -> Any:
    return site.equation.primitive.bind(*given, **site.equation.params)


def _swapped(site: Site) -> Faulty | None:
    """Of a difference that is not squared at once."""
    if site.name != "sub" or not _is_float(site):
        return None
    users = site.users.get(site.equation.outvars[0], [])
    if users and all(_is_even(user) for user in users):
        return None
    return lambda given: lax.sub(given[1], given[0])


def _is_even(equation: Any) -> bool:
    name = equation.primitive.name
    same = name == "mul" and equation.invars[0] is equation.invars[1]
    power = name == "integer_pow" and equation.params["y"] % 2 == 0
    return same or power or name in EVEN


def _is_float(site: Site) -> bool:
    # A callback has no result.
    results = site.equation.outvars[:1]
    return any(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in results)


def _without_bias(site: Site) -> Faulty | None:
    """An operand that was spread over the other's rows is left out."""
    if site.name != "add" or not _is_float(site):
        return None
    shape = site.equation.outvars[0].aval.shape
    for position in (0, 1):
        source = site.source(position)
        if source is None or source.primitive.name not in (
            "broadcast_in_dim",
            "reshape",
        ):
            continue
        spread = source.invars[0].aval.shape
        if spread and math.prod(spread) < math.prod(shape):
            other = 1 - position
            return lambda given: jnp.broadcast_to(given[other], shape)
    return None


def _other_axis(site: Site) -> Faulty | None:
    if not site.equation.invars or isinstance(site.equation.invars[0], Literal):
        return None
    shape = site.shape(0)
    params = site.equation.params
    if site.name in REDUCTIONS and len(params["axes"]) == 1:
        axis = params["axes"][0]
    elif site.name in ("cumsum", "cumprod", "cummax", "cumlogsumexp"):
        axis = params["axis"]
    else:
        return None
    others = [d for d in range(len(shape)) if d != axis and shape[d] > 1]
    if not others or not _is_float(site):
        return None
    same = [d for d in others if shape[d] == shape[axis]]
    other = (same or others)[0]
    change = {"axes": (other,)} if "axes" in params else {"axis": other}
    result = site.equation.outvars[0].aval.shape
    bind = site.equation.primitive.bind
    return lambda given: jnp.resize(bind(*given, **{**params, **change}), result)


def _mean_for_sum(site: Site) -> Faulty | None:
    if site.name != "reduce_sum" or not _is_float(site):
        return None
    count = math.prod(site.shape(0)[d] for d in site.equation.params["axes"])
    return None if count < 2 else lambda given: _run(site, given) / count


def _larger_epsilon(site: Site) -> Faulty | None:
    if site.name not in ("add", "max") or not _is_float(site):
        return None
    for position in (0, 1):
        value = site.scalar(position)
        if value is not None and 0 < value <= SMALL:
            other = 1 - position
            combine = jnp.add if site.name == "add" else jnp.maximum
            return lambda given: combine(given[other], 10 * value)
    return None


def _other_gelu(site: Site) -> Faulty | None:
    """Known by its numbers: tanh(√(2/π) (x + 0.044715 x³)), and erfc(-x/√2)."""
    scaled = site.source(0) if site.equation.invars else None
    if scaled is None or scaled.primitive.name != "mul":
        return None
    constants = [getattr(v, "val", None) for v in scaled.invars]
    has = lambda number: any(
        c is not None and np.ndim(c) == 0 and abs(float(c) / number - 1) < 5e-3
        for c in constants
    )
    if site.name == "tanh" and has(ROOT_2_OVER_PI):
        return lambda given: lax.erf(_gelu_argument(given[0]) / math.sqrt(2.0))
    if site.name in ("erf", "erfc") and has(math.sqrt(0.5)):
        sign = 1.0 if site.name == "erf" else -1.0

        def approximate(given: list) -> Any:
            x = given[0] * (math.sqrt(2.0) * sign)
            form = jnp.tanh(ROOT_2_OVER_PI * (x + 0.044715 * x**3))
            return form if site.name == "erf" else 1.0 + form

        return approximate
    return None


def _gelu_argument(u: Any) -> Any:
    """The x of u = √(2/π) (x + 0.044715 x³), by Newton's method."""
    x = u / ROOT_2_OVER_PI
    target = x
    for _ in range(40):
        x = x - (x + 0.044715 * x**3 - target) / (1.0 + 3 * 0.044715 * x**2)
    return x


def _not_transposed(site: Site) -> Faulty | None:
    if site.name == "transpose":
        result = site.equation.outvars[0].aval.shape
        # Where the sizes differ: read in the old order, as `reshape` does.
        return lambda given: given[0].reshape(result)
    if site.name == "dot_general":
        _, batch = site.equation.params["dimension_numbers"]
        shape = site.shape(1)
        if batch == ((), ()) and len(shape) == 2 and shape[0] == shape[1] > 1:
            return lambda given: _run(site, [given[0], given[1].T])
    return None


def _of_result(change: Callable[[Any], Any]) -> Callable[[Site], Faulty | None]:
    def faulty(site: Site) -> Faulty | None:
        if site.name not in COMPUTED or not _is_float(site):
            return None
        return lambda given: change(_run(site, given))

    return faulty


def _not_stopped(site: Site) -> Faulty | None:
    return (lambda given: given[0]) if site.name == "stop_gradient" else None


def _without_last(site: Site) -> Faulty | None:
    """Of a sum's terms, or of a product's."""
    if not _is_float(site):
        return None
    if site.name == "reduce_sum":
        axis = site.equation.params["axes"][0]
        size = site.shape(0)[axis]
        if size < 2:
            return None
        return lambda given: _run(
            site, [lax.slice_in_dim(given[0], 0, size - 1, axis=axis)]
        )
    if site.name == "dot_general":
        (left, right), _ = site.equation.params["dimension_numbers"]
        size = site.shape(0)[left[0]] if left else 0
        if size < 2:
            return None
        cut = lambda x, axes: lax.slice_in_dim(x, 0, size - 1, axis=axes[0])
        return lambda given: _run(site, [cut(given[0], left), cut(given[1], right)])
    return None


FAULTS: dict[str, Callable[[Site], Faulty | None]] = {
    SWAPPED: _swapped,
    BIAS: _without_bias,
    AXIS: _other_axis,
    MEAN: _mean_for_sum,
    EPSILON: _larger_epsilon,
    GELU: _other_gelu,
    TRANSPOSE: _not_transposed,
    BFLOAT16: _of_result(lambda x: x.astype(jnp.bfloat16).astype(x.dtype)),
    FACTOR: _of_result(lambda x: x * 1.01),
    STOPPED: _not_stopped,
    LAST_ROW: _without_last,
}
