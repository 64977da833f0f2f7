"""Checks of single values; each names the field, what was expected and what came."""

import dataclasses
import math
import numbers
from collections.abc import Collection, Sequence


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a finite number above zero."""
    if not (_is_number(value) and math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}`: expected a finite number above 0, got {value!r}.")


def require_positive_or_none(name: str, value: float | None) -> None:
    """Raise ValueError unless `value` is None or a finite number above zero."""
    if value is not None:
        require_positive(name, value)


def require_between(
    name: str, value: float, low: float, high: float, *, open_: bool = False
) -> None:
    """Raise ValueError unless `value` is finite and in [low, high] ((low, high))."""
    ok = _is_number(value) and math.isfinite(value)
    ok = ok and (low < value < high if open_ else low <= value <= high)
    if not ok:
        brackets = "()" if open_ else "[]"
        raise ValueError(
            f"`{name}`: expected a finite number in "
            f"{brackets[0]}{low:g}, {high:g}{brackets[1]}, got {value!r}."
        )


def require_count(name: str, value: int, minimum: int = 1) -> None:
    """Raise ValueError unless `value` is an integer of at least `minimum`."""
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not (whole and value >= minimum):
        raise ValueError(
            f"`{name}`: expected an integer of at least {minimum}, got {value!r}."
        )


def require_bool(name: str, value: bool) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}`: expected True or False, got {value!r}.")


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(
            f"`{name}`: expected one of {', '.join(map(repr, choices))}, got {value!r}."
        )


def require_seed(seed: int) -> None:
    """Raise ValueError unless `seed` is an integer in [0, 2**63)."""
    require_count("seed", seed, minimum=0)
    if seed >= 2**63:
        raise ValueError(f"`seed`: expected an integer below 2**63, got {seed!r}.")


def layer_sizes(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Hidden layers' widths as a tuple; raise ValueError unless they are counts."""
    if isinstance(sizes, str) or not isinstance(sizes, Sequence) or len(sizes) == 0:
        raise ValueError(
            f"`{name}`: expected one or more hidden layer widths such as (64, 64), "
            f"got {sizes!r}."
        )
    for size in sizes:
        require_count(name, size)
    return tuple(int(size) for size in sizes)


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
    found: dict[str, list[str]] = {}
    for argument in arguments:
        name, equals, values = argument.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals or name not in names:
            raise ValueError(
                f"`{option}`: expected NAME=VALUE,VALUE,… with a name among "
                f"{', '.join(names)}, got {argument!r}.{advice}"
            )
        if name in found:
            raise ValueError(f"`{option}`: expected {name!r} once, got it twice.")
        found[name] = [value.strip() for value in values.split(",")]
    return found


def from_fields(kind: type, values: dict):  # noqa: ANN201
    """A dataclass of these fields.

    Raises:
        ValueError: a name is unknown or missing, or a value is out of range.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ValueError(
            f"`{kind.__name__}`: unknown field {unknown[0]!r}; it has {sorted(known)}."
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"`{kind.__name__}`: {error}.") from error
