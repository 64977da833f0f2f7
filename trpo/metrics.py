"""Writers of one row of metrics per update: CSV and TensorBoard."""

import contextlib
import csv
import errno
import functools
import io
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsWriter:
    """Writes `metrics.csv` and TensorBoard events into a run directory.

    Args:
        directory: The run directory.
        columns: Names of the CSV's columns, in order; a row may leave some empty.
        last_step: Rows of later steps are dropped, as a resumed run repeats them.
    """

    def __init__(
        self, directory: Path, columns: tuple[str, ...], last_step: int
    ) -> None:
        # Slow to import, and needed only by those who write logs.
        from tensorboard.summary import Writer

        self.path = directory / "metrics.csv"
        kept = [row for row in read_metrics(self.path) if row["step"] <= last_step]
        temporary = self.path.with_suffix(".csv.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(kept)
        os.replace(temporary, self.path)
        self._file = self.path.open("ab", buffering=0)
        self._columns = columns
        self._events: Any = Writer(str(directory / "tensorboard"))
        _hide_thread_errors()

    def write(self, step: int, row: Mapping[str, float]) -> OSError | None:
        """Append a row at `step` environment steps, the whole of it or nothing.

        Returns:
            The error of a disk that refused, full for example. TensorBoard's events
            end at the first.
        """
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, restval="").writerow({"step": step, **row})
        line, size = text.getvalue().encode(), self._file.seek(0, os.SEEK_END)
        failure = None
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file.truncate(size)
            failure = error
        try:
            if self._events is not None:
                for name, value in row.items():
                    self._events.add_scalar(name, value, step=step)
        except OSError as error:
            self._events, failure = None, error
        return failure

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._events is not None:
            # Events are a copy of what metrics.csv has.
            with contextlib.suppress(OSError):
                self._events.close()


@functools.cache
def _hide_thread_errors() -> None:
    """Say nothing of what TensorBoard's threads hand to the next `write` anyway.

    Once and for good: writers are many, and close in any order.
    """
    usual = threading.excepthook

    def hook(error: Any) -> None:
        theirs = type(error.thread).__module__.startswith("tensorboard.")
        if not (theirs and issubclass(error.exc_type, OSError)):
            usual(error)

    threading.excepthook = hook


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a `metrics.csv` as numbers, empty cells left out; [] if it is absent."""
    if not path.exists():
        return []
    # A row without an end was cut off as the process was killed.
    whole, _, _ = path.read_text().rpartition("\n")
    with io.StringIO(whole) as file:
        return [
            {name: float(cell) for name, cell in row.items() if name and cell}
            for row in csv.DictReader(file)
            if row.get("step")
        ]


def logged_steps(path: Path) -> int:
    """Environment steps that a `metrics.csv` has got to, from its end alone."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    # The last line may be half written; the first may be cut, or the header.
    steps = [line.partition(",")[0] for line in lines[1:-1]]
    return int(steps[-1]) if steps and steps[-1].isdigit() else 0
