"""Checks of single values; each names the field, what was expected and what came."""

import ast
import dataclasses
import difflib
import inspect
import itertools
import math
import numbers
import operator
import os
import reprlib
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np


# What a state may hold: all numbers of Gymnasium's spaces that are the same on every
# machine, which a longdouble is not.
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip


# Sizes and indices of arrays are 32-bit numbers in XLA.
LARGEST_COUNT = 2**31 - 1
MOST_LAYERS, WIDEST_LAYER = 100, 65_536
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 120
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 8


def plain(value: Any) -> Any:
    """A number, flag, text or path as Python's own, which JSON can hold.

    NumPy's and the frameworks' numbers, fractions and members of an Enum are equal to
    what they become (a fraction rounded, if no float is it); anything else stays what
    it is.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool) or value is None:
        return value
    if (number := _index(value)) is not None:
        return number
    if isinstance(value, numbers.Real) and _is_finite(value):
        return float(value)
    return value


def on_host(array: Any) -> np.ndarray:
    """An array or numbers as NumPy's: also a tensor of a GPU, or with a gradient."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    return np.asarray(array)


def make_plain(config: Any) -> None:
    """Replace each field of a frozen dataclass by `plain` of it."""
    for field in dataclasses.fields(config):
        object.__setattr__(config, field.name, plain(getattr(config, field.name)))


def field_texts(kind: type) -> dict[str, str]:
    """The text below each field of a dataclass, which Python itself does not keep.

    Empty where there is no source.
    """
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, ValueError):
        return {}
    texts = {}
    for field, text in itertools.pairwise(getattr(definition, "body", ())):
        match field, text:
            case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(words))):
                texts[name] = " ".join(words.split())
    return texts


def section(title: str, texts: Mapping[str, str]) -> str:
    """A section of a docstring, such as "Args", of names and their texts."""
    lines = [
        textwrap.fill(
            f"{n}: {text}",
            88,
            initial_indent=4 * " ",
            subsequent_indent=8 * " ",
            break_on_hyphens=False,
        )
        for n, text in texts.items()
    ]
    return "\n".join([f"{title}:", *lines])


def shown(value: object) -> str:
    """`value` as an error shows it: whatever it is, in one short line."""
    try:
        return _REPR.repr(value)
    except (ValueError, RecursionError):  # Of an integer with thousands of digits.
        return f"something of {type(value).__name__}"


def _index(value: Any) -> int | None:
    """The integer that `value` is; None if it is none."""
    try:
        return operator.index(value)
    except TypeError:  # Arrays of many numbers have the method too.
        return None


def _is_finite(value: object) -> bool:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # An integer that no float holds.
        return False


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a finite number above zero."""
    if not (_is_finite(value) and value > 0):
        raise ValueError(
            f"`{name}`: expected a finite number above 0, got {shown(value)}."
        )


def require_positive_or_none(name: str, value: float | None) -> None:
    """Raise ValueError unless `value` is None or a finite number above zero."""
    if value is not None:
        require_positive(name, value)


def require_between(
    name: str, value: float, low: float, high: float, *, open_: bool = False
) -> None:
    """Raise ValueError unless `value` is finite and in [low, high] ((low, high))."""
    ok = _is_finite(value)
    ok = ok and (low < value < high if open_ else low <= value <= high)
    if not ok:
        brackets = "()" if open_ else "[]"
        raise ValueError(
            f"`{name}`: expected a finite number in "
            f"{brackets[0]}{low:g}, {high:g}{brackets[1]}, got {shown(value)}."
        )


def require_count(
    name: str, value: int, minimum: int = 1, maximum: int = LARGEST_COUNT
) -> None:
    """Raise ValueError unless `value` is an integer in [minimum, maximum]."""
    number = None if isinstance(value, bool) else _index(value)
    if number is None or number < minimum:
        raise ValueError(
            f"`{name}`: expected an integer of at least {minimum}, got {shown(value)}."
        )
    if number > maximum:
        raise ValueError(
            f"`{name}`: expected an integer of at most {maximum:,}, got {shown(value)}."
        )


def require_bool(name: str, value: bool) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}`: expected True or False, got {shown(value)}.")


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"`{name}`: expected one of {', '.join(map(repr, choices))}, "
            f"got {shown(value)}."
        )


def require_text(name: str, value: str, what: str, longest: int = 500) -> None:
    """Raise ValueError unless `value` is text of at most `longest` characters.

    Args:
        name: Of the argument.
        value: That was given.
        what: What it is expected to be, for the message.
        longest: In characters; that names are alike is found out in time that grows
            with their square.
    """
    if not (isinstance(value, str) and value.strip() and len(value) <= longest):
        raise ValueError(
            f"`{name}`: expected {what}, of at most {longest} characters, "
            f"got {shown(value)}."
        )


def require_seed(seed: int) -> None:
    """Raise ValueError unless `seed` is an integer in [0, 2**63)."""
    require_count("seed", seed, minimum=0, maximum=2**63 - 1)


def layer_sizes(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Hidden layers' widths as a tuple; raise ValueError unless they are counts."""
    if isinstance(sizes, str) or not isinstance(sizes, Sequence) or len(sizes) == 0:
        raise ValueError(
            f"`{name}`: expected one or more hidden layer widths such as (64, 64), "
            f"got {shown(sizes)}."
        )
    if len(sizes) > MOST_LAYERS:
        raise ValueError(
            f"`{name}`: expected at most {MOST_LAYERS} hidden layers, got {len(sizes)}."
        )
    for size in sizes:
        require_count(name, size, maximum=WIDEST_LAYER)
    layers = tuple(int(size) for size in sizes)
    weights = sum(a * b for a, b in itertools.pairwise(layers))
    if weights > LARGEST_COUNT:
        raise ValueError(
            f"`{name}`: expected at most {LARGEST_COUNT:,} weights between hidden "
            f"layers, got {weights:,}."
        )
    return layers


def assignments(
    option: str, arguments: Sequence[str], names: Collection[str], advice: str = ""
) -> dict[str, list[str]]:
    """Name -> texts of its values, from arguments such as "target_kl=0.003,0.01".

    Args:
        option: What the error calls the arguments.
        arguments: Each NAME=VALUE,VALUE,…; NAME may be written as an option, --a-b.
        names: Those that there are.
        advice: What to do for another name.

    Raises:
        ValueError: no such name, no value, or a name that comes twice.
    """
    values_of: dict[str, list[str]] = {}
    for argument in arguments:
        name, equals, values = argument.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals or name not in names:
            raise ValueError(
                f"`{option}`: expected NAME=VALUE,VALUE,… with a name among "
                f"{', '.join(names)}, got {argument!r}.{advice}"
            )
        if name in values_of:
            raise ValueError(f"`{option}`: expected {name!r} once, got it twice.")
        values_of[name] = [value.strip() for value in values.split(",")]
    return values_of


def from_fields(kind: type[Any], values: dict[str, Any]) -> Any:
    """A dataclass of these fields.

    Raises:
        ValueError: a name is unknown or missing, or a value is out of range.
    """
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields]
    for name in values:
        if name not in names:
            raise ValueError(
                f"`{kind.__name__}`: unknown field {shown(name)}; it has "
                f"{sorted(names)}."
            )
    none = dataclasses.MISSING
    for field in fields:
        needed = field.default is none and field.default_factory is none
        if needed and field.name not in values:
            raise ValueError(
                f"`{kind.__name__}`: expected a field {field.name!r}, got none."
            )
    return kind(**values)


def close_to(name: str, known: Iterable[str]) -> str:
    """What of the known names was meant, if one is close: a sentence, or nothing."""
    names = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), names, n=1)
    return f" Did you mean {names[found[0]]!r}?" if found else ""
