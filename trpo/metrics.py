"""Writers of one row of metrics per update: CSV and TensorBoard."""

import contextlib
import csv
import errno
import functools
import io
import itertools
import os
import re
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trpo.choices import LARGEST_STEP
from trpo.files import FileError, Folder


# In bytes, and in rows, one for each update.
LARGEST, MOST_ROWS = 256 * 2**20, 1_000_000
# What a damaged metrics.csv becomes once its whole rows have been taken over.
DAMAGED = "metrics.damaged.csv"


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
        rows, damage = _parsed(self.path)
        if damage:
            warnings.warn(f"{damage}; as it was it is now {DAMAGED}", stacklevel=2)
            os.replace(self.path, directory / DAMAGED)
        kept = [row for row in rows if row["step"] <= last_step]
        # Those of another version, or of the user's own, stay.
        columns = (*columns, *_others(kept, columns))
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


def _others(rows: Iterable[Mapping], columns: Sequence[str]) -> list[str]:
    """Names in the rows that are no columns."""
    return list(dict.fromkeys(n for row in rows for n in row if n not in columns))


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
    """Rows of a `metrics.csv` as numbers, in order of steps; [] if it is absent.

    Empty cells are left out, and so are damaged rows, such as those that a power cut
    left as NULs; a warning says which.

    Raises:
        FileError: it is no regular file, or larger than anything that is written.
    """
    rows, complaint = _parsed(path)
    if complaint:
        warnings.warn(complaint, stacklevel=2)
    return rows


def _parsed(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Rows of a `metrics.csv`, and what is wrong with it, "" if nothing is."""
    try:
        with Folder(path.parent) as folder:
            content = folder.read(path.name, LARGEST)
    except OSError:
        return [], ""
    # A row without an end was cut off as the process was killed. Not so zeros, which a
    # power cut leaves.
    if content.count(b"\n") > MOST_ROWS:
        raise FileError(f"{path}: expected at most {MOST_ROWS:,} rows.")
    *lines, rest = content.decode("utf-8-sig", errors="replace").split("\n")
    lines += [rest] if "\0" in rest else []
    if not lines:
        return [], ""
    names = _cells(lines[0])
    if "step" not in names or len(set(names)) < len(names):
        return [], f"{path}: left out, as line 1 does not name its columns"
    found = [(number, _row(names, line)) for number, line in enumerate(lines, 1)][1:]
    rows = [row for _, row in found if row]
    complaints = []
    if bad := [number for number, row in found if row is None]:
        complaints.append(
            f"left out {len(bad):,} of its rows, the first in line {bad[0]:,}, which "
            f"are not {len(names)} numbers as the header names them"
        )
    if any(b["step"] <= a["step"] for a, b in itertools.pairwise(rows)):
        complaints.append("its rows were sorted by step, of equal ones the last kept")
        rows.sort(key=_step)
        rows = list({_step(row): row for row in rows}.values())
    return rows, f"{path}: {'; '.join(complaints)}" if complaints else ""


def _step(row: Mapping[str, float]) -> float:
    return row["step"]


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line.removesuffix("\r")]), [])
    except csv.Error:  # Of a cell that is longer than any.
        return []


def _row(names: Sequence[str], line: str) -> dict[str, float] | None:
    """The numbers of a line, {} of an empty one; None if it is no row."""
    if not line.strip():
        return {}
    cells = _cells(line)
    if len(cells) != len(names):
        return None
    try:
        row = {n: float(cell) for n, cell in zip(names, cells, strict=True) if cell}
    except ValueError:
        return None
    counts = (row.get("step"), row.get("update", 0.0))
    whole = all(n is not None and 0 <= n <= LARGEST_STEP and n % 1 == 0 for n in counts)
    return row if whole else None


def logged_steps(path: Path) -> int:
    """Environment steps that a `metrics.csv` has got to, from its end alone.

    0 where there is none, or nothing in it can be read: it never fails.
    """
    try:
        with Folder(path.parent) as folder, folder.open(path.name) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read(4096).decode(errors="replace").split("\n")
    except (OSError, FileError):
        return 0
    # The last may be half a line; the first may be cut, or the header.
    steps = [line.partition(",")[0] for line in lines[1:-1]]
    last = steps[-1] if steps else ""
    # Of 12 digits at most, as steps have; with a point once a run was resumed.
    match = re.fullmatch(r"([0-9]{1,12})(?:\.0)?", last)
    return int(match[1]) if match else 0
