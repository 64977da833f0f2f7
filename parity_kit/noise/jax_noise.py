"""Monte-Carlo arithmetic of any JAX function: its jaxpr, evaluated with noise.

As `torch_noise`: every equation that rounds has its result changed by one unit
roundoff; a sum or product over K terms gets noise on its running total after every 64
terms and once more on the result. The same operation on the same operands is rounded
alike wherever it is written, since what a difference of the two cancels is no error.
What a power of two scales, and a sum of one term, is not rounded.
Loops, branches and functions within functions are
evaluated likewise, so that all stays one compiled function. Derivatives and optimiser
steps are equations as all others; rules of their own have been applied by then.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


UNIT_ROUNDOFF_32 = 2.0**-24
# Terms that a product or sum adds up before its simulated running total is rounded.
BLOCK = 64
# Blocks whose totals are worked out at once; more are scanned over.
AT_ONCE = 16
# Arrays up to this size get their noise as a part of one array that is drawn for all of
# them: a program of a fraction of the size, which is most of what compiling takes.
SHARED = 4096
# Arguments with fewer numbers than this run sooner than they compile.
SMALL = 200_000

# Results that are chosen, moved or counted from what is there, not computed.
EXACT = {
    "abs", "all_gather", "all_to_all", "and", "approx_top_k", "argmax", "argmin",
    "argsort", "bitcast_convert_type", "broadcast", "broadcast_in_dim", "ceil", "clamp",
    "complex", "concatenate", "conj", "convert_element_type", "copy", "copy_p",
    "copysign", "cummax", "cummin", "device_put", "dynamic_slice",
    "dynamic_update_slice", "empty", "empty2", "eq", "expand_dims", "floor", "gather",
    "ge", "gt", "imag", "iota", "is_finite", "le", "lt", "max", "min", "ne", "neg",
    "nextafter", "not", "optimization_barrier", "or", "pad", "pbroadcast", "pmax",
    "pmin", "population_count", "ppermute", "random_bits", "random_fold_in",
    "random_seed", "random_split", "random_unwrap", "random_wrap", "real", "reduce_and",
    "reduce_max", "reduce_min", "reduce_or", "reduce_precision", "reduce_window_max",
    "reduce_window_min", "rem", "reshape", "rev", "rng_bit_generator", "rng_uniform",
    "round", "scatter", "scatter-max", "scatter-min", "select_and_gather_add",
    "select_and_scatter", "select_n", "sharding_constraint", "shift_left",
    "shift_right_arithmetic", "shift_right_logical", "sign", "slice", "sort", "split",
    "squeeze", "stack", "stop_gradient", "threefry2x32", "tile", "top_k", "transpose",
    "unstack", "xor", "zeros_like",
}  # fmt: skip
# Stable algorithms give the exact result of a matrix nearby.
NEARBY = {"cholesky", "eigh", "eig", "lu", "qr", "svd", "triangular_solve", "geqrf"}


def with_rounding_noise(
    function: Callable, seed: int, unit: float = UNIT_ROUNDOFF_32
) -> Callable:
    """The function, rounded as if in a shorter precision; compiled once for all seeds.

    Args:
        function: of pytrees of arrays, traceable by `jax.jit`.
        seed: of the noise.
        unit: its relative size, 2**-24 for float32. Arrays should have a longer
            precision, float64: others have no room for the noise and are left alone.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        size = sum(np.size(leaf) for leaf in jax.tree.leaves((args, kwargs)))
        noisy = _compiled(function, size < SMALL)
        return noisy(jnp.uint32(seed), float(unit), args, kwargs)

    return run


@functools.lru_cache(maxsize=16)
def _compiled(function: Callable, is_small: bool) -> Callable:
    def noisy(seed: Array, unit: float, args: tuple, kwargs: dict) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
        run = _Run(unit)
        flat = jax.tree.leaves((args, kwargs))
        results = run.scope(closed, flat, _mixed(seed, 24))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    options = {"xla_backend_optimization_level": 0} if is_small else None
    return jax.jit(noisy, compiler_options=options)


def _mixed(key: Array, number: Any) -> Array:
    """Another key [] uint32, for a loop's step, a branch or a seed."""
    return _hashed(key ^ (jnp.uint32(number) * np.uint32(0x9E3779B9)))


def _hashed(bits: Array) -> Array:
    """Well mixed bits: Murmur3's last steps."""
    bits = (bits ^ (bits >> 16)) * np.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * np.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


class _Run:
    """One evaluation. What is drawn depends on its place and on the scope's key.

    A scope is the whole function, or a loop's step, or a branch.
    """

    def __init__(self, unit: Any) -> None:
        self.unit = unit
        # One constant for each place; the same in each compilation.
        self.places = np.random.default_rng(24)
        # What small arrays share, and how much of it is taken.
        self.shared: Any = None
        self.taken = 0
        # Operation and operands -> results, and the operands, whose ids they keep.
        self.known: dict[Any, tuple[list, list]] = {}

    def at(self, key: Array) -> Array:
        """The key of a place of its own."""
        return key ^ self.places.integers(2**32, dtype=np.uint32)

    def scope(self, closed: Any, args: Sequence, key: Array) -> list:
        """Results of a closed jaxpr with noise that is drawn anew."""
        outer = self.shared, self.taken, self.known
        count, self.known = self.shares(closed), {}
        self.shared, self.taken = _uniform(self.at(key), (count,)) * self.unit, 0
        try:
            return self.closed(closed, args, key)
        finally:
            self.shared, self.taken, self.known = outer

    def shares(self, closed: Any) -> int:
        """How many numbers a scope's small arrays take."""
        count = 0
        for equation in getattr(closed, "jaxpr", closed).eqns:
            name, inner = equation.primitive.name, _inner(equation)
            if name in _FLOW or name in EXACT or name.startswith("random_"):
                continue
            if inner is not None:
                count += self.shares(inner)
                continue
            given = equation.invars if name in NEARBY else []
            arrays = [v.aval for v in [*given, *equation.outvars]]
            sizes = [math.prod(a.shape) for a in arrays if self.fits(a)]
            count += sum(size for size in sizes if size <= SHARED)
        return count

    def drawn(self, like: Any, key: Array) -> Array:
        """Noise of mean 0 and one unit's deviation."""
        shape = np.shape(like)
        size = math.prod(shape)
        if size > SHARED:
            return _uniform(self.at(key), shape) * self.unit
        start, self.taken = self.taken, self.taken + size
        return lax.slice(self.shared, (start,), (self.taken,)).reshape(shape)

    def evaluate(
        self, jaxpr: Jaxpr, consts: Sequence, args: Sequence, key: Array
    ) -> list:
        """Results of a jaxpr, within the scope of `key`."""
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values |= dict(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            results = self.equation(equation, given, key)
            values |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def closed(self, closed: Any, args: Sequence, key: Array) -> list:
        """Results of a closed jaxpr, or of an open one without constants."""
        if isinstance(closed, ClosedJaxpr):
            return self.evaluate(closed.jaxpr, closed.consts, args, key)
        return self.evaluate(closed, (), args, key)

    def equation(self, equation: Any, given: list, key: Array) -> list:
        """Results of one equation, with noise where it rounds."""
        name, params = equation.primitive.name, equation.params
        if name in _FLOW:
            return _FLOW[name](self, params, given, self.at(key))
        inner = _inner(equation)
        if inner is not None:
            return self.closed(inner, given, key)
        operands = tuple(
            f"{atom.val} {atom.aval}" if isinstance(atom, Literal) else id(value)
            for atom, value in zip(equation.invars, given, strict=True)
        )
        same = name, operands, str(params)
        if same not in self.known:
            self.known[same] = self.computed(equation, given, key), given
        return self.known[same][0]

    def computed(self, equation: Any, given: list, key: Array) -> list:
        """Results of an operation, with noise where it rounds."""
        name, params = equation.primitive.name, equation.params
        if name in NEARBY:
            given = [self.rounded(v, key) for v in given]
        results = equation.primitive.bind(*given, **params)
        results = results if equation.primitive.multiple_results else [results]
        if name in EXACT or name.startswith("random_") or _is_scaled(equation):
            return list(results)
        if name in _SPREADS and self.fits(results[0]):
            squares = _SPREADS[name](given, params, results[0])
            return [self.spread(results[0], squares, key)]
        return [self.rounded(r, key) for r in results]

    def fits(self, value: Any) -> bool:
        """Whether an array's dtype has room for the noise."""
        dtype = getattr(value, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            return False
        wide = float(jnp.finfo(dtype).eps) < 2.0**-30
        return wide and math.prod(value.shape) > 0

    def rounded(self, value: Any, key: Array) -> Any:
        """Relative noise of one unit."""
        if not self.fits(value):
            return value
        return value + value * self.drawn(value, key)

    def spread(self, value: Any, squares: Array, key: Array) -> Any:
        """Noise of variance unit² * squares."""
        deviation = jnp.sqrt(squares).reshape(np.shape(value))
        return value + (deviation * self.drawn(value, key)).astype(value.dtype)


def _is_scaled(equation: Any) -> bool:
    """Whether the result has an operand's own digits."""
    name, given = equation.primitive.name, equation.invars
    if name == "reduce_sum":
        shape = given[0].aval.shape
        return all(shape[axis] == 1 for axis in equation.params["axes"])
    if name not in ("mul", "div"):
        return False
    factors = [atom.val for atom in given[name == "div" :] if isinstance(atom, Literal)]
    real = [float(f) for f in factors if np.ndim(f) == 0 and np.isrealobj(f)]
    return any(abs(math.frexp(factor)[0]) == 0.5 for factor in real)


def _inner(equation: Any) -> Any:
    """The jaxpr of a function within the function; None of another equation."""
    params = equation.params
    inner = params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))
    own = equation.primitive.name in ("shard_map", "pallas_call")
    return None if own else inner


def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """Noise of mean 0 and variance 1; an error is the sum of many, and so normal."""
    place = lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    bits = _hashed(place * np.uint32(0x9E3779B9) ^ key)
    return (bits.astype(jnp.float64) * 2.0**-31 - 1.0) * math.sqrt(3.0)


def _scan(run: _Run, params: dict, given: list, key: Array) -> list:
    fixed, held = params["num_consts"], params["num_carry"]
    consts, carry, xs = (
        given[:fixed],
        given[fixed : fixed + held],
        given[fixed + held :],
    )

    def body(state: tuple, x: list) -> tuple:
        step, carry = state
        outs = run.scope(params["jaxpr"], [*consts, *carry, *x], _mixed(key, step))
        return (step + 1, outs[:held]), outs[held:]

    (_, carry), ys = lax.scan(
        body, (jnp.uint32(1), carry), xs, length=params["length"],
        reverse=params["reverse"], unroll=params["unroll"],
    )  # fmt: skip
    return [*carry, *ys]


def _while(run: _Run, params: dict, given: list, key: Array) -> list:
    n, m = params["cond_nconsts"], params["body_nconsts"]
    of_cond, of_body, carry = given[:n], given[n : n + m], given[n + m :]

    def keep_going(state: tuple) -> Array:
        step, carry = state
        there = _mixed(_mixed(key, step), 2)
        return run.scope(params["cond_jaxpr"], [*of_cond, *carry], there)[0]

    def body(state: tuple) -> tuple:
        step, carry = state
        outs = run.scope(
            params["body_jaxpr"], [*of_body, *carry], _mixed(_mixed(key, step), 1)
        )
        return step + 1, outs

    return lax.while_loop(keep_going, body, (jnp.uint32(1), carry))[1]


def _cond(run: _Run, params: dict, given: list, key: Array) -> list:
    index, *operands = given
    branches = [
        functools.partial(lambda branch, *args: run.scope(branch, args, key), branch)
        for branch in params["branches"]
    ]
    return lax.switch(index, branches, *operands)


def _linear_solve(run: _Run, params: dict, given: list, key: Array) -> list:
    """By its own solver; its check of the transposed system is no part of it."""
    lengths, jaxprs = params["const_lengths"], params["jaxprs"]
    ends = list(itertools.accumulate(lengths))
    solve_consts = given[ends[1] : ends[2]]
    return run.scope(jaxprs.solve, [*solve_consts, *given[ends[-1] :]], key)


_FLOW: dict[str, Callable] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "custom_linear_solve": _linear_solve,
}


def _totals(terms: int, part: Callable[[int], Array], blocks: int) -> Array:
    """Σ T_b² over noisy running totals, and once more the last: of the result's shape.

    `part(b)` is the sum of block b's terms. The first block is no total yet.
    """
    total = part(0)
    squares = jnp.zeros(total.shape, jnp.float64)
    if blocks <= AT_ONCE:
        for b in range(1, blocks):
            total = total + part(b)
            squares += jnp.abs(total) ** 2
        return squares + jnp.abs(total) ** 2

    def add(b: Any, state: tuple) -> tuple:
        total, squares = state
        total = total + part(b)
        return total, squares + jnp.abs(total) ** 2

    total, squares = lax.fori_loop(1, blocks, add, (total, squares))
    return squares + jnp.abs(total) ** 2


def _dot_general(given: list, params: dict, result: Array) -> Array:
    left, right = (jnp.asarray(v, result.dtype) for v in given)
    (left_axes, right_axes), (left_batch, right_batch) = params["dimension_numbers"]
    left = _rows(left, left_batch, left_axes)
    right = _rows(right, right_batch, right_axes)
    terms = left.shape[-1]
    if terms <= BLOCK:
        return jnp.abs(result) ** 2
    blocks = -(-terms // BLOCK)
    left, right = (_padded(v, blocks * BLOCK) for v in (left, right))

    def part(b: Any) -> Array:
        one, two = (
            lax.dynamic_slice_in_dim(v, b * BLOCK, BLOCK, axis=2) for v in (left, right)
        )
        return jnp.einsum("bmk,bnk->bmn", one, two)

    return _totals(terms, part, blocks).reshape(result.shape)


def _rows(x: Array, batch: Sequence[int], contracted: Sequence[int]) -> Array:
    """[batch, free, contracted] of an operand."""
    free = [d for d in range(x.ndim) if d not in (*batch, *contracted)]
    size = lambda axes: math.prod(x.shape[d] for d in axes)
    moved = x.transpose(*batch, *free, *contracted)
    return moved.reshape(size(batch), size(free), size(contracted))


def _padded(x: Array, length: int) -> Array:
    widths = [(0, 0)] * (x.ndim - 1) + [(0, length - x.shape[-1])]
    return jnp.pad(x, widths)


def _reduce_sum(given: list, params: dict, result: Array) -> Array:
    rows = _rows(given[0][None], (0,), [d + 1 for d in params["axes"]])
    blocks = -(-rows.shape[-1] // BLOCK)
    parts = _padded(rows, blocks * BLOCK).reshape(*rows.shape[:-1], blocks, BLOCK)
    squares = jnp.abs(jnp.cumsum(parts.sum(-1), axis=-1)) ** 2
    return (squares[..., 1:].sum(-1) + squares[..., -1]).reshape(result.shape)


def _cumsum(given: list, params: dict, result: Array) -> Array:
    """The running total is rounded at each 64th term; all later ones inherit it."""
    axis, reverse = params["axis"], params["reverse"]
    squares = jnp.abs(result) ** 2
    place = lax.iota(jnp.int32, result.shape[axis])
    place = place[::-1] if reverse else place
    shape = [1] * result.ndim
    shape[axis] = -1
    at_block = (place % BLOCK == BLOCK - 1).reshape(shape)
    return lax.cumsum(squares * at_block, axis, reverse) + squares


def _convolution(given: list, params: dict, result: Array) -> Array:
    """Terms in blocks of whole input channels; a kernel's window has many terms."""
    left, right = given
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    whole = jnp.abs(result) ** 2
    channels, window = left.shape[numbers.lhs_spec[1]], 1
    for axis in numbers.rhs_spec[2:]:
        window *= right.shape[axis]
    if groups > 1 or params["batch_group_count"] > 1 or channels * window <= BLOCK:
        return whole
    per_block, repeats = max(1, BLOCK // window), max(1, window // BLOCK)
    blocks = -(-channels // per_block)
    pad = blocks * per_block - channels
    left = _widened(left, numbers.lhs_spec[1], pad)
    right = _widened(right, numbers.rhs_spec[1], pad)
    bind = functools.partial(lax.conv_general_dilated_p.bind, **params)

    def part(b: Any) -> Array:
        start = b * per_block
        one = lax.dynamic_slice_in_dim(left, start, per_block, numbers.lhs_spec[1])
        two = lax.dynamic_slice_in_dim(right, start, per_block, numbers.rhs_spec[1])
        return bind(one, two)

    running = _totals(channels, part, blocks) - whole
    return whole + repeats * running + (repeats - 1) * jnp.abs(part(0)) ** 2


def _widened(x: Array, axis: int, by: int) -> Array:
    return jnp.pad(x, [(0, by if d == axis else 0) for d in range(x.ndim)])


def _fft(given: list, params: dict, result: Array) -> Array:
    """Errors of all coefficients are alike, as large as their mean."""
    return jnp.broadcast_to(jnp.mean(jnp.abs(result) ** 2), result.shape)


_SPREADS: dict[str, Callable[[list, dict, Array], Array]] = {
    "dot_general": _dot_general,
    "reduce_sum": _reduce_sum,
    "cumsum": _cumsum,
    "conv_general_dilated": _convolution,
    "fft": _fft,
}
