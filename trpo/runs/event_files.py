"""TensorBoard's events of a run: what `metrics.csv` has, with the time of each row.

TensorBoard shows every event that it finds. A run that is resumed repeats steps, so the
file is made anew then, of the rows that are left.
"""

import io
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from trpo.common.files import LARGEST_TEXT, FileError, Folder, GrowingFile


DIRECTORY = "tensorboard"
# Of the name: what TensorBoard looks for, and what tells the file from a user's own.
PREFIX, SUFFIX = "events.out.tfevents.", ".trpo"


class _Old(NamedTuple):
    """Event files of earlier starts.

    Attributes:
        names: of the files.
        times: step -> Unix time at which it was done, seconds.
        records: step and names of its values -> the record as it was written.
    """

    names: list[str]
    times: dict[int, float]
    records: dict[tuple[int, frozenset[str]], bytes]


def open_events(
    folder: Folder, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
) -> GrowingFile:
    """A file of a run's events, to append to; those of earlier starts go.

    Args:
        folder: Run directory.
        rows: Those that are there already, line by line of `metrics.csv`.
        columns: Names of all values that a row may have.
    """
    with folder.folder(DIRECTORY, make=True) as inside:
        old = _old(inside, frozenset(columns))
    head = _record(file_version="brain.Event:2", wall_time=time.time())
    # Whoever shows the old file now forgets what it has read.
    head += _record(session_log={"status": "START"}, wall_time=time.time())
    content = []
    for row in rows:
        key = int(float(row["step"])), frozenset(row) - {"step"}
        moment = old.times.get(key[0])
        content.append(old.records.get(key) or event_record(row, moment))
    name = f"{PREFIX}{time.time_ns()}{SUFFIX}"
    file = GrowingFile(folder, name, head, b"".join(content), inside=DIRECTORY)
    with folder.folder(DIRECTORY) as inside:
        for earlier in old.names:
            inside.remove(earlier)
    return file


def event_record(row: Mapping[str, Any], moment: float | None = None) -> bytes:
    """A row of `metrics.csv` as one event.

    Args:
        row: With its "step"; what else it has are scalars, each of its own name; as
            numbers or as their text.
        moment: Unix time, seconds; by default the present.
    """
    import numpy as np

    # As plain scalars, which whoever reads such a file finds under "scalars".
    values = [
        {"tag": name, "simple_value": np.float32(float(value))}
        for name, value in row.items()
        if name != "step"
    ]
    return _record(
        step=int(float(row["step"])),
        wall_time=time.time() if moment is None else moment,
        summary={"value": values},
    )


def _record(**fields: Any) -> bytes:
    from tensorboard.summary.writer.record_writer import RecordWriter

    content = io.BytesIO()
    RecordWriter(content).write(_event_kind()(**fields).SerializeToString())
    return content.getvalue()


def _event_kind() -> Any:
    # Slow to import, and needed only by those who write logs.
    from tensorboard.compat.proto import event_pb2

    return vars(event_pb2)["Event"]


def _old(folder: Folder, columns: frozenset[str]) -> _Old:
    """Event files of earlier starts; one with values of other names is the user's."""
    old = _Old([], {}, {})
    for name in folder.names():
        if not name.startswith(PREFIX):
            continue
        try:
            with folder.open(name) as file:
                events = [(event, record) for event, record in _events(file)]
        except (FileError, OSError):
            continue
        tags = [frozenset(v.tag for v in event.summary.value) for event, _ in events]
        if not name.endswith(SUFFIX):
            # Of a version before this one, which named it as the library does.
            all_tags = frozenset().union(*tags)
            if not all_tags or not all_tags <= columns:
                continue
        old.names.append(name)
        for (event, record), names in zip(events, tags, strict=True):
            old.times[event.step] = event.wall_time
            # Those of older versions are no plain scalars: they are written anew.
            if all(v.HasField("simple_value") for v in event.summary.value):
                old.records[event.step, names] = record
    return old


def _events(file: IO[bytes]) -> Iterator[tuple[Any, bytes]]:
    """Events of a file and their records, up to its end or to what is no record."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    kind = _event_kind()
    while len(head := file.read(12)) == 12:
        size, checksum = struct.unpack("<QI", head)
        if size > LARGEST_TEXT or checksum != masked_crc32c(head[:8]):
            return
        rest = file.read(size + 4)
        if len(rest) < size + 4:
            return
        try:
            yield kind.FromString(rest[:size]), head + rest
        except DecodeError:
            return
