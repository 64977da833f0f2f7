"""The committed form of a run: a row per evaluation, in one CSV per environment."""

import csv
from pathlib import Path
from typing import NamedTuple

from benchmarks.csv_files import write_csv
from trpo.data.report import StepStatus


SUBJECTS = ("jax", "torch", "sb3-contrib")
STATUS_COLUMNS = tuple(status.name.lower() for status in StepStatus)
COLUMNS = (
    "seed",
    "step",
    "episodes",
    "return_mean",
    "return_std",
    "stochastic_mean",
    "stochastic_std",
    "training_return",
    "training_seconds",
    *STATUS_COLUMNS,
)


class Row(NamedTuple):
    """One evaluation of one run; the fields are the CSV's columns.

    Attributes:
        seed: the run's.
        step: environment steps done.
        episodes: episodes of the deterministic evaluation.
        scores: mean and deviation of the deterministic returns, and, at the end, of
            the returns of sampled actions.
        training_return: mean of the last 100 training episodes, None before the first.
        training_seconds: spent on rollouts and updates so far.
        statuses: how many updates so far ended in each `StepStatus`.
    """

    seed: int
    step: int
    episodes: int
    scores: tuple[float, float, float | None, float | None]
    training_return: float | None
    training_seconds: float
    statuses: tuple[int, ...]

    def cells(self) -> list:
        """As a row of the CSV; an absent number is empty."""
        scores = ["" if x is None else f"{x:.2f}" for x in self.scores]
        recent = "" if self.training_return is None else f"{self.training_return:.2f}"
        seconds = f"{self.training_seconds:.1f}"
        head = [self.seed, self.step, self.episodes]
        return [*head, *scores, recent, seconds, *self.statuses]

    @classmethod
    def from_cells(cls, cells: dict[str, str]) -> "Row":
        """From a row of the CSV."""

        def number(name: str) -> float | None:
            return float(cells[name]) if cells[name] else None

        return cls(
            int(cells["seed"]),
            int(cells["step"]),
            int(cells["episodes"]),
            (
                float(cells["return_mean"]),
                float(cells["return_std"]),
                number("stochastic_mean"),
                number("stochastic_std"),
            ),
            number("training_return"),
            float(cells["training_seconds"]),
            tuple(int(cells[name]) for name in STATUS_COLUMNS),
        )


def curves_of(rows: list[Row]) -> dict[int, list[Row]]:
    """Rows by seed, each in order of steps."""
    curves: dict[int, list[Row]] = {}
    for row in sorted(rows):
        curves.setdefault(row.seed, []).append(row)
    return curves


def read_results(directory: Path) -> dict[tuple[str, str], dict[int, list[Row]]]:
    """(environment, subject) -> seed -> rows, of all CSV files in `directory`."""
    results = {}
    for path in sorted(directory.glob("*.csv")):
        for subject in SUBJECTS:
            if path.stem.endswith(f"-{subject}"):
                env_id = path.stem.removesuffix(f"-{subject}")
                results[env_id, subject] = curves_of(read_rows(path))
    return results


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a CSV of evaluations, ordered by seed and step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, COLUMNS, [row.cells() for row in sorted(rows)])


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV of evaluations, by seed and step; [] if there is none.

    Raises:
        ValueError: its columns are others.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"`out`: expected {path} to have the columns {', '.join(COLUMNS)}, "
                f"got {reader.fieldnames}."
            )
        return [Row.from_cells(cells) for cells in reader]
