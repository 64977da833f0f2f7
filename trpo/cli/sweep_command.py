"""The command line of `trpo sweep`."""

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from trpo.cli.arguments import Modules
from trpo.common.user_modules import import_modules, typed_modules
from trpo.common.validation import require_count
from trpo.config.choices import Backend
from trpo.sweeps.sweep import parse_values, run_sweep, sweep_runs


@dataclasses.dataclass
class SweepArguments:
    """Train environments x hyperparameters x seeds, a process each; the same goes on.

    What one compiled program can hold is faster by `trpo train --compiled --sweep`.
    """

    env_ids: tyro.conf.Positional[tuple[str, ...]]
    """Gymnasium ids; each starts from its own preset."""
    modules: Modules = ()
    """Your own code, which registers environments: dotted names, or paths of .py files
    or packages. Each path's folder goes to the end of sys.path."""
    values: tuple[str, ...] = ()
    """NAME=VALUE,VALUE,… …: any options of `trpo train`; layer widths as 64x64."""
    seeds: int = 3
    """Seeds of each, from 0 up."""
    backend: Backend = "jax"
    """Framework that computes the agents."""
    total_steps: int | None = None
    """Environment steps of each run; by default the preset's."""
    workers: int | None = None
    """Processes at a time, one thread each; by default one for each core there is."""
    ray_address: str | None = None
    """Ray cluster that sees --run-dir under the same path: auto, ray://HOST:10001, or
    local for a new one; without it, this machine makes the runs."""
    run_dir: Path = Path("runs/sweep")
    """Directory of all runs, the table and the figure; what is done there stays."""


def main(arguments: SweepArguments) -> int:
    """Run the sweep; returns the exit status.

    Raises:
        ValueError: an argument is out of range, or can't be evaluated.
    """
    modules = typed_modules(arguments.modules, arguments.env_ids)
    import_modules(modules)
    overrides: dict[str, Any] = {"backend": arguments.backend, "modules": modules}
    if arguments.total_steps is not None:
        require_count("total_steps", arguments.total_steps)
        overrides["total_steps"] = arguments.total_steps
    values = parse_values(arguments.values)
    runs = sweep_runs(arguments.env_ids, arguments.seeds, values, **overrides)
    if not runs:
        raise ValueError("`env_ids`: expected one environment or more, got none.")
    if any(run.config.eval_episodes == 0 for run in runs):
        raise ValueError(
            "`eval_episodes`: expected at least 1 in a sweep, whose table is made of "
            "final evaluations, got 0."
        )
    return run_sweep(
        runs, arguments.run_dir, arguments.workers, ray_address=arguments.ray_address
    )
