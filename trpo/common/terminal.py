"""All that is printed: data can't act on a terminal, and no stream ends a run.

Names, ids, paths and errors may be a stranger's: they are never markup, and what would
act on a terminal is shown in its place. A terminal that has hung up, a full disk, a
closed pipe and an encoding without "±" stop nothing but what is printed.
"""

import codecs
import contextlib
import errno
import io
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from trpo.common.files import as_typed


# What encodings that lack them are given instead; of all else, its number.
STAND_INS = {"±": "+-", "…": "...", "—": "-", "–": "-", "→": "->", "‖": "||"}
# A line, or its pieces, each with a style of its own.
Line: TypeAlias = str | Sequence[str | tuple[str, str]]
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def visible(text: object) -> str:
    r"""Text in which nothing acts on a terminal: an escape is `\x1b`, a newline `\n`.

    So are characters that can't be seen, and those that turn the direction of others.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def quoted(path: os.PathLike[str] | str) -> str:
    """A path as a word of a shell's command, to be copied from the terminal."""
    text = as_typed(os.fspath(path))
    # Or it would be taken for an option.
    return word(f"./{text}" if text.startswith("-") else text)


def word(text: str) -> str:
    """Any argument as a word of a shell's command."""
    if text.isprintable() and text == readable(text, _encoding_of(sys.stdout)):
        return shlex.quote(text)
    return f"$'{''.join(map(_byte_wise, text))}'"


def readable(text: str, encoding: str) -> str:
    """The text, with something else for what an encoding does not have."""
    return text.encode(encoding, _STAND_IN).decode(encoding)


def lines_of(error: BaseException) -> list[str]:
    """Lines that tell an error: its message, and then its notes."""
    notes = getattr(error, "__notes__", ())
    return [str(error), *(line for note in notes for line in note.splitlines())]


def silent() -> Console:
    """A console that prints nothing."""
    return Console(quiet=True)


class Terminal:
    """Where a command prints.

    Args:
        console: Of rich, to print on; by default standard output.
        stderr: Print on standard error instead.
    """

    def __init__(self, console: Console | None = None, *, stderr: bool = False) -> None:
        if console is None:
            file: Any = SafeStream.of(sys.stderr if stderr else sys.stdout)
            # Of COLUMNS=0, as some programs set it, nothing would be seen.
            wide = 80 if os.environ.get("COLUMNS") == "0" else None
            console = Console(file=file, width=wide)
        self._console = console

    @property
    def is_terminal(self) -> bool:
        """Whether somebody sees it as it is printed."""
        return self._console.is_terminal

    def say(self, *lines: Line, style: str = "") -> None:
        """Print lines, each as it is and on one line, however long."""
        for line in lines:
            pieces = [line] if isinstance(line, str) else line
            text = Text.assemble(*map(self._piece, pieces), style=style)
            self._print(text, soft_wrap=True)

    def paragraph(self, text: str) -> None:
        """Print sentences, in lines as wide as the terminal."""
        self._print(self.as_text(text))

    def error(self, error: BaseException | str) -> None:
        """Print what is wrong: a line, and its notes below."""
        first, *more = [error] if isinstance(error, str) else lines_of(error)
        self.say(f"error: {first}", *(f"  {line}" for line in more), style="red")

    def crash(self, error: BaseException) -> None:
        """Print an error that nobody foresaw, with its traceback."""
        self.say(*"".join(traceback.format_exception(error)).splitlines())

    @contextlib.contextmanager
    def warning_if_it_fails(self, what: str) -> Iterator[None]:
        """Only say what went wrong in this block: what was learned is saved."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            self.say(f"{what}: {error}", style="yellow")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table, as wide as the terminal."""
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(self.as_text(column), overflow="fold")
        for row in rows:
            table.add_row(*map(self.as_text, row))
        self._print(table)

    def bar(self, total: int, done: int = 0) -> "Bar":
        """A live bar of `total` steps; as a context, it is seen inside."""
        return Bar(self, self._console, total, done)

    @contextlib.contextmanager
    def status(self, text: str = "") -> Iterator[Callable[[str], None]]:
        """Show what is being done; yields what changes it."""
        with self._console.status(self.as_text(text)) as status:
            yield lambda now: status.update(self.as_text(now))

    def as_text(self, text: str) -> Text:
        """Text as it is printed here."""
        return Text(readable(visible(as_typed(text)), self._console.encoding))

    def _piece(self, piece: str | tuple[str, str]) -> tuple[str, str]:
        text, style = (piece, "") if isinstance(piece, str) else piece
        return self.as_text(text).plain, style

    def _print(self, thing: Text | Table, **options: Any) -> None:
        # A console that was given has a stream of its own; rich exits where its pipe
        # is closed.
        with contextlib.suppress(OSError, ValueError, SystemExit):
            self._console.print(thing, **options)


class _TwoLines(Progress):
    """A bar with a note in a line of its own, so that neither cuts the other."""

    def get_renderables(self) -> Iterator[Any]:
        """The bar, and then the note."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(str(task.fields["note"]), no_wrap=True, overflow="ellipsis")


class Bar:
    """Steps done and time, and a note below; nothing where output is no terminal."""

    def __init__(
        self, terminal: Terminal, console: Console, total: int, done: int
    ) -> None:
        self._terminal = terminal
        self._bar = _TwoLines(
            BarColumn(bar_width=20),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} steps,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=done, note="")

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, ValueError, SystemExit):
            self._bar.stop()

    def show(self, done: int, note: str) -> None:
        """Show that so many steps are done, and a note."""
        self._bar.update(self._task, completed=done, note=self._terminal.as_text(note))


class SafeStream:
    """A standard stream to which writing never fails; it keeps what was the matter.

    Args:
        stream: The stream; None if it was closed as the process started.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: Exception | None = None
        """The first that writing met."""

    @classmethod
    def of(cls, stream: Any) -> "SafeStream":
        """The stream, made safe if it is not."""
        return stream if isinstance(stream, cls) else cls(stream)

    @property
    def encoding(self) -> str:
        """Encoding of the stream."""
        return _encoding_of(self._stream)

    def write(self, text: str) -> int:
        """Write what can be written."""
        self._try("write", readable(text, self.encoding))
        return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """File descriptor of the stream."""
        if self._stream is None:
            raise io.UnsupportedOperation("closed as the process started")
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def leave(self) -> None:
        """Have nothing left that the interpreter would fail to write as it ends."""
        self.flush()
        if self.error is not None and self._stream is not None:
            with (
                contextlib.suppress(OSError, ValueError),
                open(os.devnull, "w") as nowhere,
            ):
                os.dup2(nowhere.fileno(), self._stream.fileno())
                self._stream.flush()

    def _try(self, method: str, *arguments: str) -> None:
        try:
            if self._stream is not None:
                getattr(self._stream, method)(*arguments)
            elif arguments:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        except (OSError, ValueError) as error:
            self.error = self.error or error


@contextlib.contextmanager
def safe_streams() -> Iterator[SafeStream]:
    """Have nothing that a process prints end it, whoever prints; for all of a command.

    Yields:
        Standard output.
    """
    _occupy_standard_descriptors()
    before = sys.stdout, sys.stderr, warnings.formatwarning
    out, errors = map(SafeStream.of, before[:2])
    sys.stdout, sys.stderr = out, errors  # pyright: ignore[reportAttributeAccessIssue]
    warnings.formatwarning = _format_warning
    try:
        yield out
    finally:
        for stream in (out, errors):
            stream.leave()
        sys.stdout, sys.stderr, warnings.formatwarning = before


def _occupy_standard_descriptors() -> None:
    """Or the next file opened has the number of a stream that was closed.

    What then prints by number, as libraries in C do, would print into a checkpoint.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    # Gymnasium's have colours.
    return f"warning: {visible(_COLOUR.sub('', str(message)))}\n"


def _encoding_of(stream: Any) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode()


def _byte_wise(character: str) -> str:
    """A character between `$'` and `'`."""
    if character.isascii() and character.isprintable() and character not in "'\\":
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(STAND_INS.get(c) or _escaped(c) for c in lacking), error.end


_STAND_IN = "trpo.stand-in"
codecs.register_error(_STAND_IN, _stand_in)
