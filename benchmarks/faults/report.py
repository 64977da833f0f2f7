"""The table: fault, tries, survived, lost; as CSV, Markdown and on the terminal."""

import dataclasses
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.csv_files import read_csv, write_csv


@dataclasses.dataclass
class Result:
    """A row that was run."""

    subject: str
    group: str
    fault: str
    tries: int
    survived: int
    lost: int
    seconds: float
    note: str
    examples: list[str]


COLUMNS = ("subject", "group", "fault", "tries", "survived", "lost", "seconds", "note")
EXAMPLE = "example"
TITLE = """# Faults, and what was lost

`make torture` writes this table. Each fault is made to happen; "lost" counts tries
after which something was not as it is promised. sb3-contrib's rows are the same faults.

"""


def write(results: list[Result], directory: Path, console: Console) -> None:
    """Write `torture.csv` and `README.md`, and print the table."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = [[_text(getattr(result, name)) for name in COLUMNS] for result in results]
    examples = [" ".join(result.examples[:1]) for result in results]
    cells = [[*row, e] for row, e in zip(rows, examples, strict=True)]
    write_csv(directory / "torture.csv", (*COLUMNS, EXAMPLE), cells)
    (directory / "README.md").write_text(page(directory))
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row, style="red" if row[5] != "0" else None)
    console.print(table)


def read(directory: Path) -> list[Result]:
    """The rows of a directory's `torture.csv`; none if there is none."""
    return [
        Result(
            row["subject"], row["group"], row["fault"], int(row["tries"]),
            int(row["survived"]), int(row["lost"]), float(row["seconds"]), row["note"],
            [row[EXAMPLE]] if row[EXAMPLE] else [],
        )
        for row in read_csv(directory / "torture.csv")
    ]  # fmt: skip


def page(directory: Path) -> str:
    """The page of the rows in a directory's `torture.csv`."""
    rows = read_csv(directory / "torture.csv")
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(row[name] for name in COLUMNS) + " |" for row in rows]
    if lost := [row for row in rows if row[EXAMPLE]]:
        lines += ["", "## Examples of what was lost"]
        lines += [f"- {r['subject']}, {r['fault']}: {r[EXAMPLE]}" for r in lost]
    return TITLE + "\n".join(lines) + "\n"


def _text(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
