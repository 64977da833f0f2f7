"""A function in PyTorch and one in JAX that should be equal."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parity_kit import references


FRAMEWORKS = ("torch", "jax")
INFER = "infer"
PRODUCTS = ("jacobian", "hessian")


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two subjects, what they get, and how far they are to be compared.

    Attributes:
        torch: PyTorch's side: a function `f(*inputs)`, or `f(weights, *inputs)` if
            `weights` has arrays; a `torch.nn.Module`, or its class, made without
            arguments; or "module:name" of one of these, imported in its process only.
            None where PyTorch isn't installed, for `record` and `compare`.
        jax: JAX's side: likewise a function; a `flax.nnx.Module`, or its class, made
            with `rngs`; a linen module, or `(module, variables)`; an equinox module.
        inputs: seed -> tuple of NumPy arrays, given by position. Floats are cast to
            the proof's dtype, whole numbers keep theirs.
        weights: for two functions name -> NumPy array, the same names on both sides, or
            seed -> such a dict. For modules PyTorch's name -> JAX's name, or
            `(JAX's name, layout)`, see `parity_kit.weights`; or "infer", which proposes
            such a map and prints it.
        loss: `loss(output, *inputs)` of each side, a scalar.
        optimizer: a function parameters -> PyTorch's optimiser, and an optax
            transformation, or a function without arguments that makes one.
        steps: optimiser steps.
        products: of "jacobian" (of the outputs) and "hessian" (of the loss), those
            whose products with a random vector are compared too.
        made: the module whose code made the pair, and which of its pairs it is.
    """

    torch: Any = None
    jax: Any = None
    inputs: Callable[[int], tuple] | None = None
    weights: Any = None
    loss: tuple | None = None
    optimizer: tuple | None = None
    steps: int = 10
    products: tuple[str, ...] = ()
    made: tuple[str, int] = dataclasses.field(default=("", 0), init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "made", _made())
        if self.torch is None and self.jax is None:
            raise ValueError("`torch`, `jax`: expected two sides, got neither.")
        for name in FRAMEWORKS:
            _check_subject(name, getattr(self, name))
        if not callable(self.inputs):
            raise ValueError(
                "`inputs`: expected a function seed -> tuple of NumPy arrays, got "
                f"{_kind(self.inputs)}."
            )
        for name in ("loss", "optimizer"):
            _check_two(name, getattr(self, name))
        _check_weights(self.weights)
        self._check_training()

    def _check_training(self) -> None:
        if self.optimizer is not None and self.loss is None:
            raise ValueError(
                "`optimizer`: it needs a loss to minimise. Give `loss=(torch_loss, "
                "jax_loss)`, each loss(output, *inputs) -> scalar."
            )
        if type(self.steps) is not int or self.steps < 1:
            raise ValueError(
                f"`steps`: expected a whole number from 1 on, got {self.steps!r}."
            )
        if unknown := [name for name in self.products if name not in PRODUCTS]:
            raise ValueError(f"`products`: expected {PRODUCTS}, got {unknown[0]!r}.")
        if "hessian" in self.products and self.loss is None:
            raise ValueError("`products`: 'hessian' needs a loss.")

    def arrays(self, seed: int) -> tuple[np.ndarray, ...]:
        """The inputs of a seed, checked; floats rounded to float32's numbers.

        Raises:
            ValueError: they aren't a tuple of arrays.
        """
        assert self.inputs is not None
        try:
            given = self.inputs(seed)
        except Exception as error:
            raise ValueError(
                f"`inputs`: inputs({seed}) raised {type(error).__name__}: {error}"
                f"{references.line_of(error)}"
            ) from error
        if not isinstance(given, tuple | list) or hasattr(given, "_fields"):
            raise ValueError(
                "`inputs`: expected a tuple of NumPy arrays, one for each argument, "
                f"got {_kind(given)}; for one argument return (x,)."
            )
        return tuple(_input(i, item) for i, item in enumerate(given))

    def weight_arrays(self, seed: int) -> dict[str, np.ndarray]:
        """The arrays given as weights, of a seed."""
        given = self.weights(seed) if callable(self.weights) else self.weights
        if not isinstance(given, Mapping) or not given:
            raise ValueError(
                f"`weights`: weights({seed}) is to be a dict name -> NumPy array, got "
                f"{_kind(given)}."
            )
        return {name: _array(f"`weights`: {name!r}", a) for name, a in given.items()}

    @property
    def gives_arrays(self) -> bool:
        """Whether `weights` has arrays, which go to functions, and is no map."""
        return callable(self.weights) or (
            isinstance(self.weights, Mapping)
            and all(_is_array(value) for value in self.weights.values())
        )

    def reference(self, where: dict | None = None) -> dict[str, Any]:
        """Where its parts are found again, as JSON; see `references`.

        Raises:
            ValueError: a new process couldn't find a part.
        """
        where = where or references.of_pair(self)
        parts = {name: getattr(self, name) for name in FRAMEWORKS}
        for i, name in enumerate(FRAMEWORKS):
            for field in ("loss", "optimizer"):
                both = getattr(self, field)
                if both is not None:
                    parts[f"{name} {field}"] = (field, i, both[i])
        found: dict[str, Any] = {}
        for name, part in parts.items():
            if part is None:
                continue
            if " " in name:
                field, i, part = part
                found[name] = references.of(part, f"{field}[{i}]", where)
            else:
                found[name] = references.of(part, name, where)
        return found


_counts: dict[str, int] = {}


def _made() -> tuple[str, int]:
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    module = str(frame.f_globals.get("__name__", ""))
    # A script that is run again has another name.
    module = "__main__" if module == "__mp_main__" else module
    _counts[module] = _counts.get(module, 0) + 1
    return module, _counts[module]


def _kind(item: Any) -> str:
    return "nothing" if item is None else f"a {type(item).__qualname__}: {item!r:.60}"


def _is_array(item: Any) -> bool:
    return isinstance(item, np.ndarray | np.generic | int | float)


def _array(what: str, item: Any) -> np.ndarray:
    if not _is_array(item):
        raise ValueError(f"{what}: expected a NumPy array, got {_kind(item)}.")
    array = np.asarray(item)
    if array.dtype.kind not in "biufc":
        raise ValueError(
            f"{what}: expected numbers or booleans, got dtype {array.dtype}."
        )
    if array.dtype.kind == "f":
        return array.astype(np.float32).astype(np.float64)
    return array.astype(np.complex64) if array.dtype.kind == "c" else array


def _input(index: int, item: Any) -> np.ndarray:
    return _array(f"`inputs`: argument {index}", item)


def _check_subject(name: str, subject: Any) -> None:
    linen = isinstance(subject, tuple) and len(subject) == 2
    if subject is None or isinstance(subject, str) or callable(subject):
        return
    if not linen and not hasattr(subject, "apply"):
        raise ValueError(
            f"`{name}`: expected a function, a module, (linen module, variables) or "
            f"'module:name', got {_kind(subject)}."
        )


def _check_two(name: str, given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ValueError(
            f"`{name}`: expected two, (PyTorch's, JAX's), got {_kind(given)}."
        )
    for part in given:
        optax_like = hasattr(part, "init") and hasattr(part, "update")
        if not (part is None or callable(part) or isinstance(part, str) or optax_like):
            raise ValueError(f"`{name}`: expected functions, got {_kind(part)}.")


def _check_weights(weights: Any) -> None:
    if weights is None or callable(weights) or weights == INFER:
        return
    if not isinstance(weights, Mapping):
        raise ValueError(
            "`weights`: expected a dict name -> NumPy array for functions, a map "
            f"PyTorch's name -> JAX's for modules, or 'infer', got {_kind(weights)}."
        )
    kinds = {_is_array(value) for value in weights.values()}
    if len(kinds) == 2:
        raise ValueError("`weights`: it has arrays and names; expected one of the two.")
