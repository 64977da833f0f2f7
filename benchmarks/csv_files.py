"""Result files: rows under a header, as CSV."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints


_Row = TypeVar("_Row", bound=tuple)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Replace a file; None is an empty cell."""
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def read_csv(path: Path) -> list[dict[str, str]]:
    """Cells of each row by column; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_as(path: Path, kind: type[_Row]) -> list[_Row]:
    """Rows of a file whose columns are the fields of a NamedTuple, of their types."""
    types = get_type_hints(kind)
    return [
        kind(*(_value(cells[name], of) for name, of in types.items()))
        for cells in read_csv(path)
    ]


def _value(cell: str, kind: Any) -> Any:
    if type(None) in get_args(kind):
        return _value(cell, get_args(kind)[0]) if cell else None
    return kind(cell)
