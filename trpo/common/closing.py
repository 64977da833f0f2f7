"""What is done as something ends, and the error that is told if that fails too."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def noted(cause: BaseException) -> Iterator[None]:
    """Have an error of this block be a note of its cause, which is told instead."""
    try:
        yield
    except Exception as error:
        cause.add_note(f"after that, {type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            cause.add_note(note)


@contextlib.contextmanager
def closing(action: Callable[[], object]) -> Iterator[None]:
    """Do `action` as the block ends; an error of the block stays the one told."""
    try:
        yield
    except BaseException as cause:
        with noted(cause):
            action()
        raise
    action()
