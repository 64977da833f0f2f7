"""A command's line: tyro parses it; the help pages and one-line errors are here.

tyro's own help has every option in one list, of 265 lines for `trpo train`, and shows
what may be None as `{None}|STR`; its errors are boxes of five lines.
"""

import contextlib
import dataclasses
import inspect
import io
import itertools
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import tyro

from trpo.common.terminal import Terminal
from trpo.common.validation import close_to, field_texts


T = TypeVar("T")
HELP = ("-h", "--help", "--help-all")
METAVARS: dict[type[Any], str] = {
    int: "INT",
    float: "FLOAT",
    Path: "PATH",
    str: "TEXT",
    bool: "",
}
WORDS = {
    "INT": "a whole number", "FLOAT": "a number", "INT ...": "whole numbers",
    "FLOAT ...": "numbers", "TEXT": "a text", "PATH": "a path",
    "NAME VALUE ...": "NAME VALUE NAME VALUE", "": "no value",
}  # fmt: skip
# Defaults that say nothing.
NOTHING = ("", "None", "False", "{}")
# Columns of a page at most, and of its options' names.
WIDEST, NAMES = 100, 28
POSITIONAL = get_args(tyro.conf.Positional[int])[1]


class Option(NamedTuple):
    """A field of a dataclass as its help shows it.

    Attributes:
        name: As it is typed: "--total-steps", or "ENV_ID" if without a name.
        metavar: What stands for its values; empty of a flag.
        text: What it is.
        default: What it is if it isn't typed; `MISSING` if it must be.
        group: Title of those around it; empty on the short page.
    """

    name: str
    metavar: str
    text: str
    default: Any
    group: str

    @property
    def is_positional(self) -> bool:
        """Whether it is typed without a name."""
        return not self.name.startswith("-")

    @property
    def negated(self) -> str:
        """The name that turns a flag off; empty of what is no flag."""
        return f"--no-{self.name[2:]}" if isinstance(self.default, bool) else ""

    @property
    def choices(self) -> list[str]:
        """Those that there are; none of other types."""
        match = re.match(r"\{(.*)\}", self.metavar)
        return match[1].split(",") if match else []

    @property
    def expected(self) -> str:
        """Its values in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return WORDS.get(self.metavar, self.metavar)

    @property
    def usage(self) -> str:
        """Its name and what comes behind it."""
        if self.is_positional:
            many = " ..." if self.metavar.endswith("...") else ""
            word = f"{self.name.removesuffix('S' if many else '')}{many}"
            return word if self.default is dataclasses.MISSING else f"[{word}]"
        if self.default is True:
            return f"{self.name}, {self.negated}"
        return f"{self.name} {self.metavar}".rstrip()

    @property
    def whole_text(self) -> str:
        """What it is, and its default unless that says nothing."""
        value = self.default
        if isinstance(value, tuple):
            value = " ".join(map(str, value))
        if value is True:
            value = "on"
        says = value is not dataclasses.MISSING and str(value) not in NOTHING
        return f"{self.text} (default: {value})" if says else self.text


class UnknownOptionError(ValueError):
    """A command has no option of this `name`."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def parse(
    kind: type[T], arguments: Sequence[str], command: str, default: T | None = None
) -> T:
    """An object of `kind` by arguments as they are typed.

    Args:
        kind: A dataclass; `GROUPS`, of it or of those in it, are titles of options,
            each with the first field of it.
        arguments: Without the command.
        command: What was typed before them.
        default: What fields are that aren't typed, in place of the class's own.

    Raises:
        ValueError: they say no such object; the message names the option.
        SystemExit: they ask for help, which is printed.
    """
    options = list(options_of(kind, default))
    if asked := set(HELP) & set(arguments):
        Terminal().say(*_page(kind, options, command, "--help-all" in asked))
        raise SystemExit(0)
    _require_known(arguments, options, command)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            parsed: Any = tyro.cli(
                kind, args=arguments, prog=command, default=default,
                config=(tyro.conf.OmitArgPrefixes,),
            )  # fmt: skip
            return parsed
        except SystemExit as refused:
            cause: BaseException | None = refused
            while cause is not None:
                if type(cause) is ValueError and ": expected " in str(cause):
                    raise ValueError(str(cause)) from refused
                cause = cause.__context__
            text = _in_one_line(said.getvalue(), arguments, options)
            raise ValueError(f"{text} See `{command} --help`.") from refused


def _require_known(
    arguments: Sequence[str], options: Sequence[Option], command: str
) -> None:
    names = {name for one in options for name in (one.name, one.negated) if name}
    for word in arguments:
        name = word.partition("=")[0].replace("_", "-")
        if re.match("--?[A-Za-z]", name) and name not in names:
            raise UnknownOptionError(
                name,
                f"`{name}`: expected an option of `{command}`, and there is none of "
                f"that name.{close_to(name, names)} See `{command} --help-all`.",
            )


def _in_one_line(said: str, arguments: Sequence[str], options: Sequence[Option]) -> str:
    """What is wrong with arguments, of which tyro has said so in a box."""
    message = " ".join(re.sub(r"[│╭╰╮╯─]|--+(?!\w)", " ", said).split())
    message = re.split(" Argument help| For full help| Perhaps you", message)[0]
    by_name = {option.name: option for option in options}
    named = re.search(r"--[\w-]+", message)
    if named and (option := by_name.get(named[0])):
        words = [part for word in arguments for part in word.split("=", 1)]
        typed = [word.replace("_", "-") for word in words].index(option.name)
        values = list(itertools.takewhile(lambda w: w[:2] != "--", words[typed + 1 :]))
        close = close_to("".join(values), option.choices)
        got = " ".join(values) or "nothing"
        return f"`{option.name}`: expected {option.expected}, got {got}.{close}"
    if unknown := re.search(r"Unrecognized \w+: (.*)", message):
        return f"expected options such as --name, got {unknown[1]!r}."
    needed = [one for one in options if one.default is dataclasses.MISSING]
    said = "; ".join(f"{one.usage}: {one.text}" for one in needed)
    taking = [
        o.name for o in options if o.metavar[-3:] == "..." and o.name in arguments
    ]
    return f"expected {said}" + (f" Type it before {taking[0]}." if taking else "")


def options_of(kind: Any, default: Any = None, group: str = "") -> Iterator[Option]:
    """All fields of a dataclass and of those in it."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        texts |= field_texts(base)
    titles = {name: title for title, name in getattr(kind, "GROUPS", {}).items()}
    hints, marked = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        group = titles.get(field.name, group)
        hint, marks = hints[field.name], getattr(marked[field.name], "__metadata__", ())
        value = _default_of(field) if default is None else getattr(default, field.name)
        if dataclasses.is_dataclass(hint):
            start = None if value is dataclasses.MISSING else value
            yield from options_of(hint, start, group)
            continue
        name = next((mark.name for mark in marks if hasattr(mark, "name")), field.name)
        flag = f"--{name.replace('_', '-')}"
        typed = name.upper() if POSITIONAL in marks else flag
        metavar = next((m.metavar for m in marks if hasattr(m, "metavar")), None)
        text = texts.get(field.name, "")
        yield Option(typed, metavar or _metavar(hint), text, value, group)


def _default_of(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _metavar(hint: Any) -> str:
    """What stands for a value of this type."""
    parts = get_args(hint)
    if type(None) in parts:
        return _metavar(next(part for part in parts if part is not type(None)))
    if get_origin(hint) is tuple:
        return f"{_metavar(parts[0])} ..."
    if get_origin(hint) is dict:
        return "NAME VALUE ..."
    return METAVARS[hint] if hint in METAVARS else f"{{{','.join(parts)}}}"


def _page(kind: type, options: list[Option], command: str, whole: bool) -> list[str]:
    """Lines of the help: of all options, or the short page, which names the others."""
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST)
    positional = [option for option in options if option.is_positional]
    groups: dict[str, list[Option]] = {"": []}
    for option in (option for option in options if not option.is_positional):
        groups.setdefault(option.group, []).append(option)
    words = [option.usage for option in positional]
    lines = [" ".join(["usage:", command, *words, "[OPTION ...]"])]
    for paragraph in inspect.cleandoc(kind.__doc__ or "").split("\n\n"):
        lines += ["", *textwrap.wrap(paragraph, width)]
    lines += ["", *_entries(positional, width)] if positional else []
    more = len(groups) > 1
    about = "this page; --help-all explains all options" if more else "this page"
    lines += ["", "options:"]
    lines += _hanging(f"  {'-h, --help':{NAMES}}", about, width, NAMES + 2)
    lines += _entries(groups.pop(""), width)
    if more and not whole:
        lines += ["", f"more options, which `{command} --help-all` explains:"]
    for title, members in groups.items():
        if whole:
            lines += ["", f"{title}:", *_entries(members, width)]
        else:
            names = " ".join(option.name for option in members)
            lines += _hanging(f"  {title}: ", names, width, 4)
    return lines


def _entries(options: Sequence[Option], width: int) -> list[str]:
    """Each option's name, and beside or below it what it is."""
    lines = []
    for option in options:
        first = f"  {option.usage}"
        if len(first) > NAMES:
            spaced = first.replace(",", ", ") if len(first) > width else first
            lines += _hanging("  ", spaced.strip(), width, 6)
            first = ""
        first = f"{first:{NAMES + 2}}"
        lines += _hanging(first, option.whole_text, width, NAMES + 2)
    return lines


def _hanging(first: str, text: str, width: int, indent: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=" " * indent,
        break_on_hyphens=False, break_long_words=False,
    ) or [first.rstrip()]  # fmt: skip
