"""The table and the figure of a compiled run's members."""

import csv
from collections.abc import Sequence
from pathlib import Path

from trpo.evaluation import EvaluationResult
from trpo.members import NamedMember
from trpo.metrics import read_metrics
from trpo.plots import plot_learning_curves


TABLE = "members.csv"


def write_members(
    path: Path,
    title: str,
    members: Sequence[NamedMember],
    steps: int,
    evaluations: Sequence[EvaluationResult],
) -> None:
    """Write `members.csv` and one figure of all members into the run's directory.

    Args:
        path: Directory that has one of each member.
        title: Of the figure.
        members: Of the run.
        steps: Environment steps that each has done.
        evaluations: Final one of each member; none if there was none.
    """
    rows = [
        {"member": member.name, "seed": member.config.seed, **member.values}
        | ({"steps": steps})
        for member in members
    ]
    for row, result in zip(rows, evaluations, strict=False):
        row |= {"return_mean": result.mean, "return_std": result.std}
        row |= {"episodes": len(result.returns)}
    with (path / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    curves = {
        member.name: read_metrics(path / member.name / "metrics.csv")
        for member in members
    }
    plot_learning_curves(curves, path / "learning_curves.png", title)
