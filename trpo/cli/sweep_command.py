"""The command lines of `trpo sweep` and `trpo tune`."""

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from trpo.cli.main import Modules
from trpo.common.user_modules import import_modules, typed_modules
from trpo.config.choices import Backend
from trpo.sweeps.sweep import parse_values, run_sweep, sweep_runs
from trpo.sweeps.tune import default_space, run_tune


@dataclasses.dataclass(kw_only=True)
class ManyRuns:
    """What runs of one command have in common."""

    modules: Modules = ()
    """Your own code, which registers environments: dotted names, or paths of .py files
    or packages. Each path's folder goes to the end of sys.path."""
    backend: Backend = "jax"
    """Framework that computes the agents."""
    total_steps: int | None = None
    """Environment steps of each run; by default the preset's."""
    workers: int | None = None
    """Processes at a time, one thread each; by default one for each core there is."""
    ray_address: str | None = None
    """Ray cluster that sees --run-dir under the same path: auto, ray://HOST:10001, or
    local for a new one; without it, the runs are made on this machine."""

    def overrides(self, env_ids: tuple[str, ...]) -> dict[str, Any]:
        """Fields that are the same in all runs; the user's code is imported.

        Raises:
            ValueError: an argument is out of range.
        """
        modules = typed_modules(self.modules, env_ids)
        import_modules(modules)
        overrides: dict[str, Any] = {"backend": self.backend, "modules": modules}
        if self.total_steps is not None:
            overrides["total_steps"] = self.total_steps
        return overrides


@dataclasses.dataclass(kw_only=True)
class SweepArguments(ManyRuns):
    """Train all combinations of environments, hyperparameters and seeds.

    Each run is a process of its own. After Ctrl-C the same command goes on where it
    stopped. Runs of a functional environment that differ in numbers alone are faster by
    `trpo train --compiled --sweep`.
    """

    env_ids: tyro.conf.Positional[tuple[str, ...]]
    """Gymnasium ids; each starts from its own preset."""
    values: tuple[str, ...] = ()
    """NAME=VALUE,VALUE,… …: any options of `trpo train`; layer widths as 64x64."""
    seeds: int = 3
    """Seeds of each, from 0 up."""
    run_dir: Path = Path("runs/sweep")
    """Directory of all runs, the table and the figure; runs that are done are kept."""


@dataclasses.dataclass(kw_only=True)
class TuneArguments(ManyRuns):
    """Search for an environment's best settings with Optuna.

    The first trial is the preset. Trials that are worse than others are stopped early.
    After Ctrl-C the same command goes on where it stopped.
    """

    env_id: tyro.conf.Positional[str]
    """Gymnasium id; the search starts from its preset."""
    budget: int | None = None
    """Environment steps of all runs together; by default those of 50 whole trials."""
    values: tuple[str, ...] = ()
    """NAME=VALUE,VALUE,… …: values to choose from, for any option of `trpo train`, in
    place of the search's own; a single value is the same in all runs."""
    seeds: int = 1
    """Seeds of each trial, from 0 up, trained in turn; their mean is compared."""
    run_dir: Path = Path("runs/tune")
    """Directory of all runs, tables and figures; runs that are done are kept."""


def sweep(arguments: SweepArguments) -> int:
    """Run the sweep; returns the exit status.

    Raises:
        ValueError: an argument is out of range, or can't be evaluated.
    """
    overrides = arguments.overrides(arguments.env_ids)
    values = parse_values(arguments.values)
    runs = sweep_runs(arguments.env_ids, arguments.seeds, values, **overrides)
    if not runs:
        raise ValueError("`env_ids`: expected one environment or more, got none.")
    return run_sweep(
        runs, arguments.run_dir, arguments.workers, ray_address=arguments.ray_address
    )


def tune(arguments: TuneArguments) -> int:
    """Run the search; returns the exit status.

    Raises:
        ValueError: an argument is out of range.
    """
    overrides = arguments.overrides((arguments.env_id,))
    values = parse_values(arguments.values)
    space = default_space(arguments.env_id) | values
    fixed = {name: part[0] for name, part in space.items() if len(part) == 1}
    return run_tune(
        arguments.env_id,
        arguments.run_dir,
        {name: part for name, part in space.items() if name not in fixed},
        seeds=arguments.seeds,
        budget=arguments.budget,
        workers=arguments.workers,
        ray_address=arguments.ray_address,
        overrides=overrides | fixed,
    )
