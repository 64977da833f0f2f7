"""A row of the table: one fault, how often it was tried, and what was lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Lost(AssertionError):
    """Something that should have survived a fault has not."""


class Row:
    """The tries of one fault.

    Args:
        tries: How many there are to be; a fault with cases of its own may differ.
        on_try: Called after each.
        fraction: Of all cases, for a fault that counts them first.
    """

    def __init__(
        self,
        tries: int,
        on_try: Callable[[], None] = lambda: None,
        fraction: float = 1.0,
    ) -> None:
        self.tries, self.fraction = tries, fraction
        self.survived = 0
        self.lost: list[str] = []
        self.note = ""
        self._on_try = on_try

    @contextmanager
    def attempt(self, what: object) -> Iterator[None]:
        """One try: what the body raises is what was lost."""
        try:
            yield
        except Exception as error:
            # The first line says it; an environment's error has a traceback too.
            text = (str(error).splitlines() or [""])[0]
            self.lost.append(f"{what}: {type(error).__name__}: {text}")
        else:
            self.survived += 1
        self._on_try()

    @property
    def done(self) -> int:
        """Tries so far."""
        return self.survived + len(self.lost)


class Scenario(NamedTuple):
    """A fault.

    Attributes:
        group: what it happens to.
        fault: what happens.
        tries: at full size; 0 if that is as many as it finds cases.
        run: makes the tries.
        least: tries of the smallest fraction.
        subject: who is made to survive.
    """

    group: str
    fault: str
    tries: int
    run: Callable[[Row], None]
    least: int = 1
    subject: str = "trpo"

    def at(self, fraction: float, on_try: Callable[[], None] = lambda: None) -> Row:
        """The row after a fraction of the tries."""
        tries = max(self.least, round(self.tries * fraction))
        row = Row(tries, on_try, fraction)
        self.run(row)
        return row


def require(fact: object, otherwise: str) -> None:
    """Raise `Lost` unless `fact`."""
    if not fact:
        raise Lost(otherwise)
