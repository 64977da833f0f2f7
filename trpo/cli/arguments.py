"""A dataclass as a command line: its fields are the options, their texts the help.

Fields may be text, whole numbers, numbers, flags, paths, choices (`Literal`), `None` or
one of these, tuples of them, a dictionary typed as NAME VALUE NAME VALUE, and other
dataclasses, whose fields are options beside the others. A mistake is one line.
"""

import dataclasses
import inspect
import shutil
import textwrap
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from trpo.common.terminal import Terminal
from trpo.common.validation import close_to, field_texts, shown


T = TypeVar("T")
HELP = ("-h", "--help", "--help-all")
WORDS = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}
# Columns of a help page at most, and of its options' names.
WIDEST, NAMES = 100, 28


class Typed(NamedTuple):
    """How a field is typed, if not as its own name says: in `Annotated`.

    Attributes:
        name: Without dashes, if another one.
        metavar: What stands for its value in the help.
        positional: It needs no name.
    """

    name: str | None = None
    metavar: str | None = None
    positional: bool = False


Positional = Annotated[T, Typed(positional=True)]
"""A field that is typed without its name."""


class Option(NamedTuple):
    """A field as it is typed.

    Attributes:
        path: Names of the fields that lead to it.
        kind: Its type, or that of each of its values.
        optional: It may be None.
        many: It takes any number of values.
        typed: How it is typed.
        text: What it is.
        default: What it is if it isn't typed; `MISSING` if it must be.
        group: Title under which the help has it; empty on the short page.
    """

    path: tuple[str, ...]
    kind: Any
    optional: bool
    many: bool
    typed: Typed
    text: str
    default: Any
    group: str

    @property
    def name(self) -> str:
        """As it is typed, and as errors name it."""
        name = self.typed.name or self.path[-1]
        if self.typed.positional:
            return name.upper().removesuffix("S" if self.many else "")
        return f"--{name.replace('_', '-')}"

    @property
    def metavar(self) -> str:
        """What stands for its values."""
        if self.kind is bool:
            return ""
        if self.kind is dict:
            return "NAME VALUE ..."
        kinds = {int: "INT", float: "FLOAT", Path: "PATH", str: "TEXT"}
        word = self.typed.metavar or kinds.get(self.kind) or self._choices
        empty = "|None" if self.optional and self.default is not None else ""
        return f"{word}{empty}{' ...' if self.many else ''}"

    @property
    def _choices(self) -> str:
        return f"{{{','.join(get_args(self.kind))}}}"

    @property
    def expected(self) -> str:
        """One value in words."""
        return WORDS.get(self.kind) or f"one of {', '.join(get_args(self.kind))}"

    @property
    def usage(self) -> str:
        """Its name and what comes behind it."""
        if self.typed.positional:
            return f"{self.name}{' ...' if self.many else ''}"
        if self.kind is bool and self.default is True:
            return f"{self.name}, --no-{self.name[2:]}"
        return f"{self.name} {self.metavar}".rstrip()

    @property
    def shown_default(self) -> str:
        """The default in words; empty where the text says it, or there is none."""
        value = self.default
        if value is None or value is False or value is dataclasses.MISSING:
            return ""
        if value in ((), {}, ""):
            return ""
        if self.many:
            value = " ".join(map(str, value))
        return f"(default: {'on' if value is True else value})"


def parse(
    kind: type[T], arguments: Sequence[str], command: str, default: T | None = None
) -> T:
    """An object of `kind` by arguments as they are typed.

    Args:
        kind: A dataclass.
        arguments: Without the command.
        command: What was typed before them.
        default: What fields are that aren't typed, in place of the class's own.

    Raises:
        ValueError: they say no such object; the message names the option.
        SystemExit: they ask for help, which is printed.
    """
    options = list(_options(kind, default))
    if asked := set(HELP) & set(arguments):
        whole = "--help-all" in asked
        Terminal().say(*_page(kind, options, command, whole))
        raise SystemExit(0)
    typed = _read(options, arguments, command)
    for option in options:
        if option.default is dataclasses.MISSING and option.path not in typed:
            raise ValueError(
                f"`{option.name}`: expected {option.expected}, got nothing. It is: "
                f"{option.text} See `{command} --help`."
            )
    return _made(kind, default, typed)


def _made(kind: Any, default: Any, typed: dict[tuple[str, ...], Any]) -> Any:
    """The dataclass of these values, by their paths."""
    hints, values = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        below = {path[1:]: v for path, v in typed.items() if path[0] == field.name}
        if () in below:
            values[field.name] = below[()]
        elif below:
            start = getattr(default, field.name, None)
            values[field.name] = _made(hints[field.name], start, below)
    return kind(**values) if default is None else dataclasses.replace(default, **values)


# Fields.


def _options(
    kind: Any, default: Any, path: tuple[str, ...] = (), group: str = ""
) -> Iterator[Option]:
    """All fields of a dataclass and of those in it."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        texts |= field_texts(base)
    first = {name: title for title, name in getattr(kind, "GROUPS", {}).items()}
    for field in dataclasses.fields(kind):
        group = first.get(field.name, group)
        start = _default_of(field) if default is None else getattr(default, field.name)
        hint, optional, typed = _unwrapped(
            get_type_hints(kind, include_extras=True)[field.name]
        )
        where = (*path, field.name)
        if dataclasses.is_dataclass(hint):
            start = None if start is dataclasses.MISSING else start
            yield from _options(hint, start, where, group)
            continue
        many = get_origin(hint) in (tuple, dict)
        of_each: Any = get_origin(hint) if get_origin(hint) is dict else hint
        of_each = get_args(hint)[0] if get_origin(hint) is tuple else of_each
        text = texts.get(field.name, "")
        yield Option(where, of_each, optional, many, typed, text, start, group)


def _default_of(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _unwrapped(hint: Any) -> tuple[Any, bool, Typed]:
    """A type without `Annotated` and None; whether it may be None; how it is typed."""
    typed = Typed()
    if get_origin(hint) is Annotated:
        hint, typed = get_args(hint)
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    (kind,) = [part for part in parts if part is not type(None)]
    return kind, len(parts) > 1, typed


# Values.


def _read(
    options: Sequence[Option], arguments: Sequence[str], command: str
) -> dict[tuple[str, ...], Any]:
    """Values of what is typed, by their paths."""
    named = {option.name: option for option in options if not option.typed.positional}
    free = [option for option in options if option.typed.positional]
    typed: dict[tuple[str, ...], Any] = {}
    words = list(arguments)
    while words:
        if words[0].startswith("-"):
            option, texts = _read_named(words, named, command)
        elif free:
            option = free.pop(0)
            texts = _taken(words, option.many)
        else:
            raise ValueError(
                f"`{command}`: expected an option such as --name, got "
                f"{shown(words[0])}. See `{command} --help`."
            )
        if option.many and option.path in typed:
            raise ValueError(
                f"`{option.name}`: expected it once, with all its values behind it."
            )
        typed[option.path] = _value(option, texts)
    return typed


def _read_named(
    words: list[str], named: dict[str, Option], command: str
) -> tuple[Option, list[str]]:
    """The option that comes next, taken from `words` with the texts of its values."""
    name, equals, text = words.pop(0).partition("=")
    name = name.replace("_", "-")
    flags = {f"--no-{n[2:]}": o for n, o in named.items() if o.kind is bool}
    option = named.get(name) or flags.get(name)
    if option is None:
        raise ValueError(
            f"`{name}`: expected an option of `{command}`, and there is none of that "
            f"name.{close_to(name, named)} See `{command} --help-all`."
        )
    if option.kind is bool:
        if equals:
            raise ValueError(
                f"`{name}`: expected no value, got {shown(text)}: type {option.name} "
                f"or --no-{option.name[2:]}."
            )
        return option, [str(name in named)]
    texts = [text] if equals else []
    if option.many or not equals:
        texts += _taken(words, option.many)
    if not (texts or option.many):
        raise ValueError(f"`{name}`: expected {option.expected}, got nothing.")
    return option, texts


def _taken(words: list[str], many: bool) -> list[str]:
    """The values that come next, taken from `words`."""
    texts = []
    while words and not words[0].startswith("--") and (many or not texts):
        texts.append(words.pop(0))
    return texts


def _value(option: Option, texts: Sequence[str]) -> Any:
    if option.kind is bool:
        return texts == ["True"]
    if option.kind is dict:
        if len(texts) % 2:
            raise ValueError(
                f"`{option.name}`: expected NAME VALUE NAME VALUE, got {len(texts)} "
                f"words, the last {shown(texts[-1])}."
            )
        return {name: _guessed(value) for name, value in zip(*[iter(texts)] * 2)}  # noqa: B905
    if option.many:
        return tuple(_one(option, text) for text in texts)
    return None if option.optional and texts[0] == "None" else _one(option, texts[0])


def _one(option: Option, text: str) -> Any:
    """A value of the option's type."""
    kind = option.kind
    try:
        if kind is int:
            return _whole(text)
        if get_origin(kind) is not Literal:
            return kind(text)
    except (ValueError, OverflowError):
        pass
    else:
        if text in get_args(kind):
            return text
    close = close_to(text, get_args(kind)) if get_origin(kind) is Literal else ""
    raise ValueError(
        f"`{option.name}`: expected {option.expected}, got {shown(text)}.{close}"
    )


def _whole(text: str) -> int:
    """A whole number, also as 1e6 is one."""
    try:
        return int(text)
    except ValueError:
        if (number := float(text)).is_integer():
            return int(number)
        raise


def _guessed(text: str) -> bool | int | float | str:
    """A flag, a number, or else the text."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


# Help.


def _page(kind: type, options: list[Option], command: str, whole: bool) -> list[str]:
    """Lines of the help: of all options, or the short page, which names the others."""
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST)
    positional, groups = _grouped(options)
    lines = [" ".join(["usage:", command, *map(_slot, positional), "[OPTION ...]"])]
    for paragraph in inspect.cleandoc(kind.__doc__ or "").split("\n\n"):
        lines += ["", *textwrap.wrap(paragraph, width)]
    lines += ["", *_entries(positional, width)] if positional else []
    more = len(groups) > 1
    about = "this page; --help-all explains all options" if more else "this page"
    lines += ["", "options:"]
    lines += _hanging(f"  {'-h, --help':{NAMES}}", about, width, NAMES + 2)
    lines += _entries(groups.pop(""), width)
    if whole:
        for title, members in groups.items():
            lines += ["", f"{title}:", *_entries(members, width)]
    elif more:
        lines += ["", f"more options, which `{command} --help-all` explains:"]
        for title, members in groups.items():
            names = " ".join(option.name for option in members)
            lines += _hanging(f"  {title}: ", names, width, 4)
    return lines


def _grouped(options: list[Option]) -> tuple[list[Option], dict[str, list[Option]]]:
    """What is typed without a name; the others by their titles."""
    groups: dict[str, list[Option]] = {"": []}
    for option in options:
        if not option.typed.positional:
            groups.setdefault(option.group, []).append(option)
    return [option for option in options if option.typed.positional], groups


def _slot(option: Option) -> str:
    needed = option.default is dataclasses.MISSING
    return option.usage if needed else f"[{option.usage}]"


def _entries(options: Sequence[Option], width: int) -> list[str]:
    """Each option's name, and beside or below it what it is."""
    lines = []
    for option in options:
        text = f"{option.text} {option.shown_default}"
        first = f"  {option.usage}"
        if len(first) > NAMES:
            spaced = option.usage.replace(",", ", ") if len(first) > width else first
            lines += _hanging("  ", spaced.strip(), width, 6)
            first = ""
        lines += _hanging(f"{first:{NAMES + 2}}", text, width, NAMES + 2)
    return lines


def _hanging(first: str, text: str, width: int, indent: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=" " * indent,
        break_on_hyphens=False, break_long_words=False,
    ) or [first.rstrip()]  # fmt: skip
