"""The table and the figure of a compiled run's members."""

import csv
import io
from collections.abc import Sequence

from trpo.rollout.evaluation import EvaluationResult
from trpo.runs.directory import RunDirectory
from trpo.runs.learning_curves import learning_curves_png
from trpo.runs.members import NamedMember
from trpo.runs.metrics import METRICS, read_metrics


TABLE = "members.csv"


def write_members(
    directory: RunDirectory,
    title: str,
    members: Sequence[NamedMember],
    steps: int,
    evaluations: Sequence[EvaluationResult],
) -> None:
    """Write `members.csv` and one figure of all members into the run's directory.

    Args:
        directory: Of the run, with one of each member in it.
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
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    directory.write(TABLE, table.getvalue().encode())
    curves = {
        member.name: read_metrics(directory.path / member.name / METRICS)
        for member in members
    }
    directory.write("learning_curves.png", learning_curves_png(curves, title))
