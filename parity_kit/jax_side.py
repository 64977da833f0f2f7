"""JAX's side of a proof: what its subject gives for inputs and weights.

Every kind of subject becomes one pure function of parameters, the rest of its state
and the inputs, so that all that follows knows one kind only.
"""

import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from parity_kit import probes
from parity_kit.arrays import Leaves, load, plain_number, save
from parity_kit.faults import jax_faults
from parity_kit.faults.fault import Fault
from parity_kit.noise.jax_noise import with_rounding_noise
from parity_kit.results import Results, cotangent, user_code


Tree = Any
# The pure function, the parameters, the rest of the state, and the module.
Parts = tuple[Callable, Tree, Tree, Any]
COLLECTION = "params."


def to_numpy(item: Any) -> np.ndarray | None:
    """A JAX array or number as NumPy's; None for anything else."""
    if isinstance(item, jax.Array):
        if jnp.issubdtype(item.dtype, jax.dtypes.prng_key):
            item = jax.random.key_data(item)
        if item.dtype in (jnp.bfloat16, jnp.float16):
            item = item.astype(jnp.float32)
        return np.array(item)
    return plain_number(item)


def named_leaves(tree: Tree) -> dict[str, Any]:
    """The leaves of a tree by their path: `layers.0.kernel`."""
    return {
        _name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def arrays_of(tree: Tree) -> dict[str, np.ndarray]:
    """A tree's arrays of numbers by name; keys of random numbers are left out."""
    found = named_leaves(tree)
    return {n: np.asarray(to_numpy(x)) for n, x in found.items() if _is_number(x)}


def with_arrays(tree: Tree, arrays: Mapping[str, np.ndarray], dtype: Any) -> Tree:
    """The tree with these arrays, and all floats in a dtype."""

    def leaf(path: Any, old: Any) -> Any:
        if not _is_number(old):
            return old
        new = arrays.get(_name(path))
        if new is None:
            return cast(old, dtype)
        if np.shape(new) != jnp.shape(old):
            raise ValueError(
                f"`weights`: {_name(path)!r} of JAX has shape {list(jnp.shape(old))}, "
                f"the map gives {list(np.shape(new))}."
            )
        if _is_float(old):
            return cast(jnp.asarray(new), dtype)
        return jnp.asarray(new).astype(old.dtype)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def cast(array: Any, dtype: Any) -> jax.Array:
    """The array in JAX, a float one in the given dtype; a copy."""
    array = jnp.array(array)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        return array.astype(jnp.complex128 if dtype == jnp.float64 else jnp.complex64)
    return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array


def compute_in_float64() -> None:
    """Let what JAX calls float32 be float64, and casts to NumPy's too.

    As in PyTorch; flax's defaults are made of the names, and JAX's own attention casts
    to NumPy's float32.
    """
    jnp.float32 = jnp.single = jnp.float64
    jnp.complex64 = jnp.csingle = jnp.complex128
    casts = jax.lax.convert_element_type_p
    longer: dict[Any, Any] = {
        np.dtype("float32"): np.dtype("float64"),
        np.dtype("complex64"): np.dtype("complex128"),
    }
    bind = casts.bind

    def in_float64(*args: Any, new_dtype: Any, **params: Any) -> Any:
        return bind(*args, new_dtype=longer.get(new_dtype, new_dtype), **params)

    casts.bind = in_float64


def _is_number(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array | np.ndarray):
        return False
    return not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _other_key(leaf: Any) -> Any:
    key = isinstance(leaf, jax.Array) and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )
    return jax.random.fold_in(leaf, 1) if key else leaf


def _is_float(leaf: Any) -> bool:
    return _is_number(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _name(path: Any) -> str:
    keys = [
        str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path
    ]
    # An nnx variable's array is its `value`.
    variable = isinstance(path[-1], jax.tree_util.GetAttrKey) if path else False
    keys = keys[:-1] if len(keys) > 1 and variable and keys[-1] == "value" else keys
    return ".".join(keys)


class Side:
    """JAX's subject, loss and optimiser; see `results` for what a run gives.

    Args:
        subject: function, nnx module or class, linen module with its variables, or a
            callable tree of arrays such as an equinox module.
        loss: output, inputs -> scalar.
        optimizer: an optax transformation, or a function that makes one.
        dtype: of all floats.
        device: "cpu" or "cuda".
    """

    framework = "jax"

    def __init__(
        self, subject: Any, loss: Any, optimizer: Any, dtype: str, device: str
    ) -> None:
        self.loss, self.dtype = loss, jnp.dtype(dtype)
        self.subject = subject
        self.optimizer = _transformation(optimizer)
        self.device = jax.devices("cpu" if device == "cpu" else "gpu")[0]
        self.linen_inputs: tuple[np.ndarray, ...] = ()
        self.kind = _kind(subject)
        self._made: Parts | None = None
        self._programs: dict[Any, Any] = {}
        self._fault: Fault | None = None
        # Whether a module's keys of random numbers are others than at first.
        self.other_keys = False

    @property
    def is_module(self) -> bool:
        """Whether it has weights of its own."""
        return self.kind != "function"

    def describe(self) -> dict[str, Any]:
        """Names and shapes of a module's weights, parameters and buffers apart."""
        if not self.is_module:
            return {"module": False, "parameters": {}, "buffers": {}}
        _, params, rest, _ = self._parts()
        shapes = [
            {n: list(x.shape) for n, x in named_leaves(tree).items() if _is_float(x)}
            for tree in (params, rest)
        ]
        return {"module": True, "parameters": shapes[0], "buffers": shapes[1]}

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """A module's own first weights."""
        _, params, rest, _ = self._parts(seed)
        found = {**named_leaves(params), **named_leaves(rest)}
        return {n: np.asarray(to_numpy(x)) for n, x in found.items() if _is_float(x)}

    def _parts(self, seed: int = 0) -> Parts:
        """The pure function, the parameters and the rest, as they were given."""
        if self._made is not None and seed == 0:
            return self._made
        parts = {
            "nnx": _nnx_parts, "linen": _linen_parts, "tree": _tree_parts,
        }[self.kind](self.subject, seed, self.linen_inputs)  # fmt: skip
        if seed == 0:
            self._made = parts
        return parts

    def _fresh(self, weights: Mapping[str, np.ndarray]) -> tuple[Tree, Tree]:
        if self.kind == "function":
            return {n: cast(a, self.dtype) for n, a in weights.items()}, {}
        _, params, rest, _ = self._parts()
        params, rest = (with_arrays(t, weights, self.dtype) for t in (params, rest))
        if self.other_keys:
            params, rest = jax.tree.map(_other_key, (params, rest))
        return params, rest

    def _function(self) -> Callable:
        """The pure function, `(params, rest, *inputs) -> (output, rest)`."""
        own = self.kind == "function"
        function = self._of_function if own else self._parts()[0]
        if self._fault is not None:
            return jax_faults.planted(function, self._fault)
        return function

    def _of_function(self, params: Tree, rest: Tree, *inputs: Any) -> tuple[Any, Tree]:
        return self.subject(*((params, *inputs) if params else inputs)), rest

    def _pure(self, params: Tree, rest: Tree, inputs: tuple) -> tuple[Any, Tree]:
        return user_code("jax", "the function", self._function(), params, rest, *inputs)

    def places(self, inputs: tuple, weights: Mapping) -> list[Fault]:
        """Faults that can be planted in the function."""
        with jax.default_device(self.device):
            given = tuple(cast(a, self.dtype) for a in inputs)
            return jax_faults.places(self._function(), *self._fresh(weights), *given)

    @contextmanager
    def planted(self, fault: Fault) -> Iterator[None]:
        """Within it the function has a fault, and runs as it stands."""
        self._fault = fault
        try:
            yield
        finally:
            self._fault = None

    def example(self) -> Any:
        """The function, or a module."""
        return self._given() if self.is_module else self.subject

    def _given(self) -> Any:
        return self._parts()[3]

    def caller(self, inputs: tuple, weights: Mapping) -> Callable[[], Any]:
        """Runs the subject once."""
        given = tuple(cast(a, self.dtype) for a in inputs)
        return lambda: self._pure(*self._fresh(weights), given)[0]

    def run(
        self,
        inputs: tuple[np.ndarray, ...],
        weights: Mapping[str, np.ndarray],
        steps: int,
        products: tuple[str, ...] = (),
        noise: tuple[int, float] | None = None,
        record: bool = True,
        modules: tuple[str, ...] = (),
    ) -> Results:
        """Everything that this side gives, see `results.Runs`."""
        results, wrap = Results(), _noise(noise)
        with jax.default_device(self.device):
            given = tuple(cast(a, self.dtype) for a in inputs)
            params, rest = self._fresh(weights)
            rest = self._forward(results, params, rest, given, wrap, record, modules)
            start = self._fresh(weights)
            with probes.recording(_ignored):
                if self.loss is not None:
                    self._loss(results, *start, given, wrap)
                if products:
                    self._products(results, *start, given, products)
                if self.optimizer is not None and steps:
                    params, rest = self._train(results, *start, given, steps, wrap)
            self._state(results, params, rest, steps)
        return results

    def _forward(
        self,
        results: Results,
        params: Tree,
        rest: Tree,
        given: tuple,
        wrap: Any,
        record: bool,
        modules: tuple[str, ...],
    ) -> Tree:
        marked = Marked() if record else None
        # Without a wrapper it runs as it stands, so that probes see arrays.
        function = wrap(self._of_arrays) if wrap is not None else self._pure
        note = marked.note if marked is not None else _ignored
        with probes.recording(note), _hooks(results, self.kind, modules):
            output, rest = function(params, rest, given)
            jax.block_until_ready([x for x in jax.tree.leaves(output) if _is_number(x)])
            jax.effects_barrier()
        if wrap is not None:
            results.arrays |= {name: np.asarray(a) for name, a in output.items()}
        else:
            results.output(Leaves(output, "outputs", to_numpy))
        for name, items in (marked.items if marked is not None else {}).items():
            for item in items:
                free = probes.numbered(name, results.probes)
                results.probes[free] = Leaves(item, free, to_numpy)
        return rest

    def _of_arrays(self, params: Tree, rest: Tree, given: tuple) -> tuple[Any, Tree]:
        """As `_pure`, its output a dict of arrays: one that can be traced."""
        output, rest = self._pure(params, rest, given)

        def traced(item: Any) -> Any:
            if not isinstance(item, jax.Array):
                return plain_number(item)
            if jnp.issubdtype(item.dtype, jnp.complexfloating):
                return jnp.stack([item.real, item.imag], axis=-1)
            return item

        return Leaves(output, "outputs", traced).arrays, rest

    def _loss_of(self, params: Tree, rest: Tree, given: tuple) -> tuple[Any, Tree]:
        output, rest = self._pure(params, rest, given)
        loss = user_code("jax", "the loss", self.loss, output, *given)
        if not isinstance(loss, jax.Array) or loss.shape != ():
            shaped = isinstance(loss, jax.Array)
            got = list(loss.shape) if shaped else type(loss).__name__
            raise ValueError(
                "`loss`: JAX's is to give a scalar array, shape [], it gave "
                f"{got}; take a mean or a sum."
            )
        if not jnp.issubdtype(loss.dtype, jnp.floating):
            raise ValueError(f"`loss`: expected a float, JAX's gave {loss.dtype}.")
        return loss, rest

    def _value_and_grad(self, params: Tree, rest: Tree, given: tuple) -> tuple:
        floats, others = _split(params)

        def loss(floats: Tree) -> Any:
            return self._loss_of(_join(floats, others), rest, given)

        (value, rest), gradient = jax.value_and_grad(loss, has_aux=True)(floats)
        return value, gradient, rest

    def _by_inputs(self, params: Tree, rest: Tree, given: tuple) -> tuple:
        """The gradient by the inputs, of a function without weights."""
        floats, others = _split(given)

        def loss(floats: Tree) -> Any:
            return self._loss_of(params, rest, _join(floats, others))

        (value, rest), gradient = jax.value_and_grad(loss, has_aux=True)(floats)
        return value, gradient, rest

    def _call(self, name: str, function: Callable, wrap: Any, *args: Any) -> Any:
        """Run a function compiled, or as it stands if it can't be."""
        if wrap is not None or self._fault is not None:
            changed = function if wrap is None else wrap(function)
            return user_code("jax", name, changed, *args)
        if name not in self._programs:
            self._programs[name] = jax.jit(function)
        try:
            return self._programs[name](*args)
        except (
            jax.errors.ConcretizationTypeError,
            jax.errors.TracerArrayConversionError,
        ):
            self._programs[name] = function
        except Exception:
            if self._programs[name] is function:
                raise
            # Once more as it stands, whose message is the user's own.
            self._programs[name] = function
        return user_code("jax", name, function, *args)

    def _loss(
        self, results: Results, params: Tree, rest: Tree, given: tuple, wrap: Any
    ) -> None:
        by_weights = bool(jax.tree.leaves(params))
        call = self._value_and_grad if by_weights else self._by_inputs
        loss, gradient, _ = self._call("its gradient", call, wrap, params, rest, given)
        results.arrays["loss"] = np.asarray(to_numpy(loss))
        for name, array in self._named(gradient, params).items():
            results.arrays[f"gradient/{name}"] = array

    def _named(self, tree: Tree, params: Tree) -> dict[str, np.ndarray]:
        arrays = arrays_of(tree)
        if not jax.tree.leaves(params):
            return {f"input {name}": array for name, array in arrays.items()}
        return arrays

    vectors: Mapping[str, np.ndarray] = {}

    def _products(
        self, results: Results, params: Tree, rest: Tree, given: tuple, products: tuple
    ) -> None:
        by_weights = bool(jax.tree.leaves(params))
        floats, others = _split(params if by_weights else given)

        def at(floats: Tree) -> tuple[Tree, tuple]:
            whole = _join(floats, others)
            return (whole, given) if by_weights else (params, whole)

        def projected(floats: Tree) -> Any:
            params, given = at(floats)
            return _projected(self._pure(params, rest, given)[0])

        def loss(floats: Tree) -> Any:
            params, given = at(floats)
            return self._loss_of(params, rest, given)[0]

        found = {}
        if "jacobian" in products:
            found["jacobian"] = jax.grad(projected)(floats)
        if "hessian" in products:
            direction = self._vector(floats, by_weights)
            found["hessian"] = jax.jvp(jax.grad(loss), (floats,), (direction,))[1]
        results.arrays |= {
            f"gradient/{kind} product/{name}": array
            for kind, product in found.items()
            for name, array in self._named(product, params).items()
        }

    def _vector(self, floats: Tree, by_weights: bool) -> Tree:
        """The Hessian's vector, the same numbers as on PyTorch's side."""

        def leaf(path: Any, old: Any) -> Any:
            name = _name(path) if by_weights else f"input {_name(path)}"
            found = self.vectors.get(name)
            found = cotangent(name, old.shape) if found is None else found
            return jnp.asarray(found, old.dtype)

        return jax.tree_util.tree_map_with_path(leaf, floats)

    def _train(
        self,
        results: Results,
        params: Tree,
        rest: Tree,
        given: tuple,
        steps: int,
        wrap: Any,
    ) -> tuple[Tree, Tree]:
        floats, _ = _split(params)
        state = user_code("jax", "the optimizer", self.optimizer.init, floats)
        for step in range(1, steps + 1):
            params, rest, state = self._call(
                "the optimizer", self._step, wrap, params, rest, state, given
            )
            for name, array in arrays_of(_split(params)[0]).items():
                results.arrays[f"optimizer/{step}/{name}"] = array
        # The optimiser's own state is in what one more step makes of it.
        params, rest, state = _through_file((params, rest, state))
        params, rest, _ = self._call(
            "the optimizer", self._step, wrap, params, rest, state, given
        )
        return params, rest

    def _step(self, params: Tree, rest: Tree, state: Any, given: tuple) -> tuple:
        import optax

        value, gradient, new_rest = self._value_and_grad(params, rest, given)
        floats, others = _split(params)

        def loss(floats: Tree) -> Any:
            return self._loss_of(_join(floats, others), rest, given)[0]

        transformation = optax.with_extra_args_support(self.optimizer)
        updates, state = transformation.update(
            gradient, state, floats, value=value, grad=gradient, value_fn=loss
        )
        return _join(optax.apply_updates(floats, updates), others), new_rest, state

    def _state(self, results: Results, params: Tree, rest: Tree, steps: int) -> None:
        if self.optimizer is None or not steps:
            params, rest = _through_file((params, rest))
        arrays = {**arrays_of(params), **arrays_of(rest)}
        for name, array in arrays.items():
            results.arrays[f"state/{name}"] = array


def _noise(given: tuple[int, float] | None) -> Callable[[Callable], Callable] | None:
    """Changes each function that is run; each has a seed of its own."""
    if given is None:
        return None
    seed, unit = given
    numbers = itertools.count(1000 * seed)
    return lambda function: with_rounding_noise(function, next(numbers), unit)


class Marked:
    """What probes mark while the function runs as it stands.

    Inside the user's own `jit`, `scan` or `vmap` the array comes when that runs.
    """

    def __init__(self) -> None:
        self.items: dict[str, list[Any]] = {}

    def note(self, name: str, x: Any) -> None:
        """Take what is marked."""
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(x)):
            jax.debug.callback(functools.partial(_at_run_time, name), x)
        else:
            kept = jax.tree.map(np.array, x)
            self.items.setdefault(name, []).append(kept)


def _at_run_time(name: str, x: Any) -> None:
    recorder = probes.active()
    if recorder is not None:
        recorder(name, x)


def _ignored(name: str, x: Any) -> None:
    """What is marked where nothing is recorded."""


def _projected(output: Any) -> Any:
    """The output's floats times a random vector."""
    found: list[Any] = []

    def note(item: Any) -> np.ndarray | None:
        if not isinstance(item, jax.Array):
            return plain_number(item)
        if jnp.issubdtype(item.dtype, jnp.floating):
            found.append(item)
        return np.zeros(item.shape)

    Leaves(output, "outputs", note)
    signs = [jnp.asarray(cotangent(i, x.shape), x.dtype) for i, x in enumerate(found)]
    return sum(jnp.sum(x * s) for x, s in zip(found, signs, strict=True))


def _split(tree: Tree) -> tuple[Tree, Tree]:
    """Floats, which have gradients, and the rest; None in each other's places."""
    floats = jax.tree.map(lambda x: x if _is_float(x) or _is_traced(x) else None, tree)
    others = jax.tree.map(lambda x: None if _is_float(x) or _is_traced(x) else x, tree)
    return floats, others


def _is_traced(leaf: Any) -> bool:
    return isinstance(leaf, Tracer) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _join(floats: Tree, others: Tree) -> Tree:
    return jax.tree.map(
        lambda a, b: b if a is None else a, floats, others, is_leaf=lambda x: x is None
    )


def _through_file(tree: Tree) -> Tree:
    """A tree as its checkpoint gives it back: its arrays written and read again."""
    import tempfile

    leaves, form = jax.tree.flatten(tree)
    held = {str(i): np.asarray(x) for i, x in enumerate(leaves) if _is_number(x)}
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        save(held, file.name)
        restored = load(file.name)
    back = [
        jnp.asarray(restored[str(i)]) if str(i) in restored else x
        for i, x in enumerate(leaves)
    ]
    return jax.tree.unflatten(form, back)


def _transformation(optimizer: Any) -> Any:
    if optimizer is None or hasattr(optimizer, "update"):
        return optimizer
    made = user_code("jax", "the optimizer", optimizer)
    if not hasattr(made, "init") or not hasattr(made, "update"):
        raise ValueError(
            "`optimizer`: JAX's is an optax transformation, or a function without "
            f"arguments that makes one; it gave a {type(made).__qualname__}."
        )
    return made


def _kind(subject: Any) -> str:
    nnx = sys.modules.get("flax.nnx")
    linen = sys.modules.get("flax.linen")
    one = subject[0] if isinstance(subject, tuple) and subject else subject
    if linen is not None and isinstance(one, linen.Module):
        return "linen"
    if nnx is not None and isinstance(subject, nnx.Module):
        return "nnx"
    if nnx is not None and inspect.isclass(subject) and issubclass(subject, nnx.Module):
        return "nnx"
    if inspect.isclass(subject) or not callable(subject):
        raise ValueError(
            "`jax`: expected a function, a flax.nnx.Module or its class, (linen "
            f"module, variables), or an equinox module, got {subject!r:.80}."
        )
    leaves = jax.tree.leaves(subject)
    if any(_is_float(leaf) for leaf in leaves):
        return "tree"
    # A module without arrays, such as one that only pools.
    return "function"


def _nnx_parts(subject: Any, seed: int, inputs: tuple) -> Parts:
    from flax import nnx

    if inspect.isclass(subject):
        takes = "rngs" in inspect.signature(subject.__init__).parameters
        arguments = {"rngs": nnx.Rngs(seed)} if takes else {}
        made = user_code("jax", "making it with rngs", subject, **arguments)
    else:
        made = subject
    form, params, rest = nnx.split(made, nnx.Param, ...)

    def function(params: Tree, rest: Tree, *inputs: Any) -> tuple[Any, Tree]:
        module = nnx.merge(form, params, rest, copy=True)
        output = module(*inputs)
        return output, nnx.split(module, nnx.Param, ...)[2]

    return function, params, rest, made


def _linen_parts(subject: Any, seed: int, inputs: tuple) -> Parts:
    if isinstance(subject, tuple):
        module, variables = subject
    else:
        module = subject
        given = [jnp.asarray(a) for a in inputs]
        variables = user_code(
            "jax", "its init", module.init, jax.random.key(seed), *given
        )
    if not isinstance(variables, Mapping):
        raise ValueError("`jax`: expected (linen module, variables), variables a dict.")
    if "params" not in variables and variables:
        # The parameters themselves.
        variables = {"params": variables}
    params = variables.get("params", {})
    rest = {name: tree for name, tree in variables.items() if name != "params"}
    mutable, made = list(rest), (module, variables)

    def function(params: Tree, rest: Tree, *inputs: Any) -> tuple[Any, Tree]:
        found = {"params": params, **rest} if jax.tree.leaves(params) else rest
        if not mutable:
            return module.apply(found, *inputs), rest
        output, changed = module.apply(found, *inputs, mutable=mutable)
        return output, {**rest, **changed}

    return function, params, rest, made


def _tree_parts(subject: Any, seed: int, inputs: tuple) -> Parts:
    """A callable that is a tree of arrays, such as an equinox module."""
    leaves = jax.tree.map(lambda x: x if _is_float(x) else None, subject)
    others = jax.tree.map(lambda x: None if _is_float(x) else x, subject)

    def function(params: Tree, rest: Tree, *inputs: Any) -> tuple[Any, Tree]:
        return _join(params, others)(*inputs), rest

    return function, leaves, {}, subject


@contextmanager
def _hooks(results: Results, kind: str, modules: tuple[str, ...]) -> Iterator[None]:
    """Record what the parts of an nnx module give; other kinds have no such places."""
    if kind != "nnx" or not modules:
        yield
        return
    from flax import nnx

    paths: dict[int, str] = {}
    patched: dict[type, Any] = {}
    merge = nnx.merge

    def noting(*args: Any, **kwargs: Any) -> Any:
        module = merge(*args, **kwargs)
        for path, part in nnx.iter_modules(module):
            name, kind = ".".join(str(key) for key in path), type(part)
            if name in modules:
                paths[id(part)] = name
                if kind not in patched:
                    patched[kind] = kind.__call__
                    kind.__call__ = _noted(kind.__call__, paths, results)
        return module

    nnx.merge = noting
    try:
        yield
    finally:
        nnx.merge = merge
        for cls, original in patched.items():
            cls.__call__ = original


def _noted(original: Any, paths: Mapping[int, str], results: Results) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        if id(self) in paths:
            results.note_module(paths[id(self)], output, to_numpy)
        return output

    return call
