"""Closing what has failed: the first error is raised, a second becomes its note."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def noting_failure(cause: BaseException) -> Iterator[None]:
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
        with noting_failure(cause):
            action()
        raise
    action()
