"""Writers of one row of metrics per update: CSV and TensorBoard."""

import contextlib
import csv
import io
import itertools
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trpo.common.files import FileError, Folder, GrowingFile, opened
from trpo.config.choices import LARGEST_STEP
from trpo.runs.event_files import event_record, open_events
from trpo.training.progress import EVALUATION_COLUMNS


METRICS = "metrics.csv"
# In bytes, and in rows, one for each update.
LARGEST, MOST_ROWS = 256 * 2**20, 1_000_000
MOST_COLUMNS = 1_000
# What a damaged metrics.csv becomes once its whole rows have been taken over.
DAMAGED = "metrics.damaged.csv"


class Row(dict[str, Any]):
    """Numbers of a row by column.

    Attributes:
        lines: cells of its line in the file, or of both, if it was evaluated last.
    """

    lines: Sequence[Mapping[str, str]] = ()


class MetricsWriter:
    """Writes `metrics.csv` and TensorBoard events into a run directory.

    Args:
        directory: The run directory; one that is held is made again with its files if
            it is deleted meanwhile.
        columns: Names of the CSV's columns, in order; a row may leave some empty, and
            may have others, for which the file is made anew.
        last_step: Rows of later steps are dropped, as a resumed run repeats them.
    """

    def __init__(
        self, directory: Path | Folder, columns: tuple[str, ...], last_step: int
    ) -> None:
        self._opened = contextlib.ExitStack()
        folder = self._folder = self._opened.enter_context(opened(directory))
        rows, damage = _parsed(folder, METRICS)
        if damage:
            warnings.warn(f"{damage}; as it was it is now {DAMAGED}", stacklevel=2)
            folder.rename(METRICS, DAMAGED)
        kept = [row for row in rows if row["step"] <= last_step]
        # Those of another version, or of the user's own, stay.
        self._columns = (*columns, *_others(kept, columns))
        self._rows = self._begun(self._columns, kept)
        lines = [cells for row in kept for cells in row.lines]
        self._events = open_events(folder, lines, self._columns)

    def write(self, step: int, row: Mapping[str, float]) -> Exception | None:
        """Append a row at `step` environment steps, the whole of it or nothing.

        Returns:
            The error of a disk that refused, full for example.
        """
        whole = {"step": step, **row}
        if others := _others([whole], self._columns):
            columns = (*self._columns, *others)
            if len(columns) > MOST_COLUMNS:
                return FileError(f"expected at most {MOST_COLUMNS:,} metrics.")
            try:
                rows = self._begun(columns, _parsed(self._folder, METRICS)[0])
            except (OSError, FileError) as error:
                return error
            self._rows.close()
            self._rows, self._columns = rows, columns
        refused = self._rows.append(_line(self._columns, whole))
        return refused or self._events.append(event_record(whole))

    def _begun(self, columns: tuple[str, ...], rows: Iterable[Row]) -> GrowingFile:
        header = _line(columns, {name: name for name in columns})
        lines = (cells for row in rows for cells in row.lines)
        content = b"".join(_line(columns, cells) for cells in lines)
        return GrowingFile(self._folder, METRICS, header, content)

    def close(self) -> None:
        """Close the files."""
        self._rows.close()
        self._events.close()
        self._opened.close()


def csv_lines(rows: Iterable[Iterable]) -> bytes:
    """Lines of a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _line(columns: Sequence[str], row: Mapping[str, Any]) -> bytes:
    return csv_lines([[row.get(name, "") for name in columns]])


def _others(rows: Iterable[Mapping], columns: Sequence[str]) -> list[str]:
    """Names in the rows that are no columns."""
    return list(dict.fromkeys(n for row in rows for n in row if n not in columns))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a `metrics.csv` as numbers, in order of steps; [] if it is absent.

    Empty cells are left out, and so are damaged rows, such as those that a power cut
    left as NULs; a warning says which.

    Raises:
        FileError: it is no regular file, or larger than anything that is written.
    """
    try:
        with Folder(path.parent) as folder:
            rows, complaint = _parsed(folder, path.name)
    except OSError:
        return []
    if complaint:
        warnings.warn(complaint, stacklevel=2)
    return [*rows]


def _parsed(folder: Folder, name: str) -> tuple[list[Row], str]:
    """Rows of a `metrics.csv`, and what is wrong with it, "" if nothing is."""
    path = folder.path / name
    try:
        content = folder.read(name, LARGEST)
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
    numbered_rows = [
        (number, _row(names, line)) for number, line in enumerate(lines, 1)
    ][1:]
    rows = _with_evaluations([row for _, row in numbered_rows if row])
    complaints = []
    if bad := [number for number, row in numbered_rows if row is None]:
        complaints.append(
            f"left out {len(bad):,} of its rows, the first in line {bad[0]:,}, which "
            f"are not {len(names)} numbers as the header names them"
        )
    if any(b["step"] <= a["step"] for a, b in itertools.pairwise(rows)):
        complaints.append("its rows were sorted by step, of equal ones the last kept")
        rows.sort(key=_step)
        rows = list({_step(row): row for row in rows}.values())
    return rows, f"{path}: {'; '.join(complaints)}" if complaints else ""


def _with_evaluations(rows: list[Row]) -> list[Row]:
    """Rows in which the final evaluation, a row of its own, is part of the update's."""
    joined: list[Row] = []
    for row in rows:
        alone = row.keys() <= {"step", *EVALUATION_COLUMNS}
        if alone and joined and joined[-1]["step"] == row["step"]:
            joined[-1].update(row)
            joined[-1].lines = [*joined[-1].lines, *row.lines]
        else:
            joined.append(row)
    return joined


def _step(row: Mapping[str, float]) -> float:
    return row["step"]


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line.removesuffix("\r")]), [])
    except csv.Error:  # Of a cell that is longer than any.
        return []


def _row(names: Sequence[str], line: str) -> Row | None:
    """The numbers of a line, {} of an empty one; None if it is no row."""
    if not line.strip():
        return Row()
    cells = _cells(line)
    if len(cells) != len(names):
        return None
    try:
        row = Row((n, float(c)) for n, c in zip(names, cells, strict=True) if c)
    except ValueError:
        return None
    row.lines = [{n: c for n, c in zip(names, cells, strict=True) if c}]
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
