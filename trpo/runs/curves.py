"""Metrics of a run directory as curves over environment steps."""

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from trpo.common.files import FileError
from trpo.config.run import TrainConfig
from trpo.data.report import StepStatus
from trpo.runs.directory import RunDirectory, RunDirectoryError
from trpo.runs.learning_curves import can_be_drawn
from trpo.runs.metrics import read_metrics


Row: TypeAlias = Mapping[str, float]


class LoggedRun(NamedTuple):
    """A run as its directory has it.

    Attributes:
        label: short name, unique among those compared.
        path: run directory.
        config: of the run.
        rows: of `metrics.csv`, in order.
        evaluation: of `evaluation.json`; None if the run has not ended.
    """

    label: str
    path: Path
    config: TrainConfig
    rows: list[dict[str, Any]]
    evaluation: dict[str, Any] | None


class Curve(NamedTuple):
    """One line of a panel.

    Attributes:
        label: what it is, "" where the panel has only one.
        value: of a row; None where the row lacks it.
        dashed: a bound that the others are held against.
    """

    label: str
    value: Callable[[TrainConfig, Row], float | None]
    dashed: bool = False


class Panel(NamedTuple):
    """One diagram.

    Attributes:
        title: what is drawn, with its unit.
        curves: its lines for each run.
        logarithmic: of its vertical axis.
        counts: from 0 on.
    """

    title: str
    curves: tuple[Curve, ...]
    logarithmic: bool = False
    counts: bool = False


def load_runs(paths: Sequence[Path]) -> list[LoggedRun]:
    """Every run in `paths`; of a sweep or a compiled run, all its members.

    Raises:
        RunDirectoryError: a path has no run, or none is given.
    """
    if not paths:
        raise RunDirectoryError("`run_dirs`: expected a run directory, got none.")
    run_paths: list[Path] = []
    for path in paths:
        # A run's own metrics first: what lies below it is part of it.
        is_run = os.path.lexists(path / "metrics.csv")
        files = [path / "metrics.csv"] if is_run else sorted(path.rglob("metrics.csv"))
        if not files:
            raise RunDirectoryError(
                f"`run_dirs`: expected the directory of a run, with a metrics.csv, or "
                f"of many, got {path}."
            )
        run_paths += [file.parent for file in files]
    run_paths = list(dict.fromkeys(run_paths))
    return [
        LoggedRun(
            label,
            path,
            RunDirectory(path).shown_config(drop_removed=True),
            read_metrics(path / "metrics.csv"),
            _evaluation(RunDirectory(path)),
        )
        for label, path in zip(_labels(run_paths), run_paths, strict=True)
    ]


def points(run: LoggedRun, curve: Curve) -> tuple[list[float], list[float]]:
    """Steps and values where the run has them and they can be drawn."""
    pairs = [(row["step"], curve.value(run.config, row)) for row in run.rows]
    kept = [(s, v) for s, v in pairs if v is not None and can_be_drawn(v)]
    return [s for s, _ in kept], [v for _, v in kept]


def _evaluation(directory: RunDirectory) -> dict[str, Any] | None:
    try:
        return directory.read_evaluation()
    except FileError as error:
        warnings.warn(f"left out {error}", stacklevel=3)
        return None


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    whole = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, whole)) + 1):
        labels = ["/".join(parts[-count:]) for parts in whole]
        if len(set(labels)) == len(labels):
            return labels
    return [str(path) for path in paths]


def _metric(name: str) -> Callable[[TrainConfig, Row], float | None]:
    return lambda _, row: row.get(name)


def _target_kl(config: TrainConfig, row: Row) -> float | None:
    """The radius as logged; of older runs by the schedule that they followed."""
    if "policy/target_kl" in row:
        return row["policy/target_kl"]
    if "update" not in row:
        return None
    spread = row.get("rollout/advantage_std", math.inf)
    return config.numbers_at(int(row["update"]) - 1, spread).target_kl


def line_search_index(config: TrainConfig, row: Row) -> float | None:
    """Index j of the accepted candidate, whose fraction is backtrack_coeff^j.

    `backtrack_iters` where a search was tried and none was accepted; None where there
    was nothing to search.
    """
    fraction = row.get("policy/line_search_frac")
    if fraction is None or not math.isfinite(fraction):
        return None
    if fraction <= 0.0:
        # Of other outcomes there was no search.
        exhausted = row.get("policy/status") == StepStatus.LINE_SEARCH_EXHAUSTED
        return float(config.agent.backtrack_iters) if exhausted else None
    return float(round(math.log(fraction) / math.log(config.agent.backtrack_coeff)))


def _residual(_: TrainConfig, row: Row) -> float | None:
    """Zero has no place on a logarithmic axis: it is left out."""
    return row.get("cg/residual") or None


def _residual_tolerance(config: TrainConfig, _: Row) -> float | None:
    """In the unit of what is logged, the norm: the setting bounds its square."""
    return math.sqrt(config.agent.cg_residual_tol) or None


PANELS = (
    Panel(
        "episode return",
        (
            Curve("training, mean of last 100", _metric("rollout/episode_return_mean")),
            Curve("evaluation", _metric("evaluation/return_mean"), dashed=True),
        ),
    ),
    Panel(
        "mean KL(old || new), nats",
        (
            Curve("taken", _metric("policy/kl")),
            Curve("target", _target_kl, dashed=True),
        ),
    ),
    Panel(
        "agreement: actual over predicted improvement",
        (Curve("", _metric("policy/agreement")),),
    ),
    Panel(
        "conjugate gradient's residual |r| / |g|",
        (
            Curve("reached", _residual),
            Curve("tolerance", _residual_tolerance, dashed=True),
        ),
        logarithmic=True,
    ),
    Panel(
        "conjugate-gradient iterations",
        (
            Curve("done", _metric("cg/iterations")),
            Curve("most", lambda c, _: float(c.agent.cg_iters), True),
        ),
        counts=True,
    ),
    Panel(
        "line-search index (most: none accepted)",
        (
            Curve("accepted", line_search_index),
            Curve("most", lambda c, _: float(c.agent.backtrack_iters), True),
        ),
        counts=True,
    ),
    Panel(
        "critic's explained variance",
        (Curve("", _metric("value/explained_variance")),),
    ),
    Panel("policy's entropy, nats", (Curve("", _metric("policy/entropy")),)),
)
"""One diagram each; the split of time has its own, see `trpo.runs.curves_figure`."""

COST_PANEL = Panel(
    "episode cost",
    (
        Curve("training, mean of last 100", _metric("rollout/episode_cost_mean")),
        Curve("limit", lambda c, _: c.agent.cost_limit, dashed=True),
    ),
)


def panels_of(runs: Sequence[LoggedRun]) -> tuple[Panel, ...]:
    """The panels of these runs: with costs if one of them has a limit on costs."""
    limited = any(run.config.agent.cost_limit is not None for run in runs)
    return (*PANELS, COST_PANEL) if limited else PANELS


TIMES = (
    ("rollout", "time/acting_and_stepping_seconds"),
    ("update", "time/learning_seconds"),
    ("evaluation", "time/evaluation_seconds"),
)


def time_split(run: LoggedRun) -> dict[str, float]:
    """Part -> seconds over the whole run, of the parts that were measured."""
    return {
        part: math.fsum(row[name] for row in run.rows if can_be_drawn(row.get(name)))
        for part, name in TIMES
        if any(name in row for row in run.rows)
    }
