"""Train presets over environments, backends and seeds; commit curves and a table.

    python -m benchmarks.learning.training --envs Hopper-v5 --seeds 0 1 2 --workers 2
    python -m benchmarks.learning.training --report-only

Each run is a `trpo train` of its own under --runs, so that an interrupted study goes on
where it stopped: finished runs are skipped, open ones resumed. Results are one CSV per
environment and backend; tables and figures are made from those files alone.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from rich.console import Console

from benchmarks import pages
from benchmarks.command import Output, run_command
from benchmarks.learning.training.figures import draw_curves
from benchmarks.learning.training.report import report
from benchmarks.learning.training.rows import curves_of, read_rows, write_rows
from benchmarks.learning.training.runs import RunSpec
from trpo.config.presets import BY_ENVIRONMENT
from trpo.sweeps.pool import run_all


RESULTS = "training"


@dataclasses.dataclass
class Arguments(Output):
    """Train presets over environments, backends and seeds; write curves and a table."""

    envs: tuple[str, ...] = tuple(BY_ENVIRONMENT)
    """Gymnasium environment ids."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds; each is one run."""
    backends: tuple[Literal["jax", "torch"], ...] = ("jax",)
    """Frameworks."""
    workers: int = 2
    """Runs at a time, each in a process of one thread."""
    total_steps: int | None = None
    """Environment steps of each run; by default the preset's."""
    device: str = "cpu"
    """Of the agents: cpu, cuda, cuda:1."""
    runs: Path = Path("runs/study")
    """Where the run directories are kept."""
    report_only: bool = False
    """Run nothing; rewrite tables and figures from the CSV files."""


def main(arguments: Arguments) -> int:
    """Run what is missing, then rewrite tables and figures; returns the exit status."""
    console = Console()
    status = 0
    results = arguments.folder(RESULTS)
    results.mkdir(parents=True, exist_ok=True)
    if not arguments.report_only:
        specs = planned(arguments)
        check_budgets(specs, results)
        status = run_all(
            specs,
            arguments.runs,
            arguments.workers,
            console,
            on_done=lambda spec: save(spec, arguments.runs, results),
        )
    for path in report(results), draw_curves(results):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if arguments.publish:
        pages.write()
    return status


def planned(arguments: Arguments) -> list[RunSpec]:
    """All runs, seed by seed, so that an unfinished study covers all environments."""
    budget = arguments.total_steps
    overrides = () if budget is None else (("total_steps", budget),)
    if arguments.device != "cpu":
        overrides += (("device", arguments.device),)
    return [
        RunSpec(env_id, backend, seed, overrides)
        for seed in arguments.seeds
        for env_id in arguments.envs
        for backend in arguments.backends
    ]


def csv_path(spec: RunSpec, results: Path) -> Path:
    """The CSV that a run's rows go to."""
    return results / f"{spec.env_id.replace('/', '-')}-{spec.backend}.csv"


def check_budgets(specs: list[RunSpec], results: Path) -> None:
    """Refuse to mix budgets: curves of different lengths are no one sample.

    Raises:
        ValueError: a CSV holds runs of another number of steps.
    """
    for spec in specs:
        path = csv_path(spec, results)
        ends = {curve[-1].step for curve in curves_of(read_rows(path)).values()}
        if ends - {spec.steps}:
            raise ValueError(
                f"`out`: expected {path} to hold runs of {spec.steps:,} steps, got "
                f"{max(ends - {spec.steps}):,}. Give another --out, or remove it."
            )


def save(spec: RunSpec, runs: Path, results: Path) -> str:
    """Put a finished run's rows into its CSV, in place of older ones; one line."""
    rows = spec.collect(runs)
    path = csv_path(spec, results)
    others = [row for row in read_rows(path) if row.seed != spec.seed]
    write_rows(path, others + rows)
    mean, std, _, _ = rows[-1].scores
    return (
        f"{spec.env_id} {spec.backend} seed {spec.seed}: return {mean:.1f} ± "
        f"{std:.1f}, {rows[-1].training_seconds:,.0f} s of training"
    )


if __name__ == "__main__":
    run_command(main, Arguments)
