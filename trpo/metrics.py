"""Writers of one row of metrics per update: CSV and TensorBoard."""

import csv
import os
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
        self._file = self.path.open("a", newline="")
        self._csv = csv.DictWriter(self._file, columns, restval="")
        self._events = Writer(str(directory / "tensorboard"))

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Append a row at `step` environment steps, and flush it."""
        self._csv.writerow({"step": step, **row})
        self._file.flush()
        for name, value in row.items():
            self._events.add_scalar(name, value, step=step)

    def close(self) -> None:
        """Flush and close the files."""
        self._file.close()
        self._events.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a `metrics.csv` as numbers, empty cells left out; [] if it is absent."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
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
