"""What the command line's `train --compiled` does: one program, one or many members."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from trpo.compiled_session import MANIFEST, CompiledSession
from trpo.config import TrainConfig
from trpo.evaluation import EvaluationResult
from trpo.members import members_of, reserve_cpu_devices
from trpo.run_directory import RunDirectory, RunDirectoryError
from trpo.terminal import Terminal
from trpo.validation import plain


def is_compiled_run(run_dir: Path) -> bool:
    """Whether a directory is that of a compiled run, of one member or of many."""
    return (Path(run_dir) / MANIFEST).is_file()


def train_compiled(
    config: TrainConfig,
    run_dir: Path,
    *,
    num_seeds: int = 1,
    sweep: Mapping[str, Sequence[float]] | None = None,
    console: Console | None = None,
) -> list[EvaluationResult]:
    """Train one run, or many at once, in one compiled program.

    A single run's files are those of `trpo.commands.train_run`; of many, each member
    has a directory of its own in `run_dir`, beside a table and a figure of all.

    Args:
        config: Configuration of the run, or of the first member.
        run_dir: Directory to write to; new or empty.
        num_seeds: Seeds from `config.seed` up.
        sweep: Hyperparameter -> values; all combinations are run.
        console: Where to print.

    Returns:
        The final evaluation of each member; none if stopped or not asked for.

    Raises:
        RunDirectoryError: the directory exists.
        ValueError: the backend is not JAX, the environment is not functional, or a
            value is out of range.
    """
    sweep = {
        plain(name): tuple(map(plain, values)) for name, values in (sweep or {}).items()
    }
    terminal = Terminal(console)
    run = CompiledSession(config, Path(run_dir), plain(num_seeds), sweep, terminal)
    run.create()
    return run.train()


def resume_compiled(
    run_dir: Path, total_steps: int | None = None, console: Console | None = None
) -> list[EvaluationResult]:
    """Continue a compiled run from the newest step that all members have saved.

    Args:
        run_dir: Directory that `train_compiled` wrote.
        total_steps: New budget of each member; by default the run's own.
        console: Where to print.

    Raises:
        RunDirectoryError: it is no compiled run.
        CheckpointError: a member has no valid checkpoint.
    """
    run_dir = Path(run_dir)
    try:
        manifest = json.loads((run_dir / MANIFEST).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RunDirectoryError(
            f"`run_dir`: expected the directory of a compiled run, with a {MANIFEST}, "
            f"got {run_dir} ({error})."
        ) from error
    config = RunDirectory(run_dir).read_config()
    if total_steps is not None:
        config = dataclasses.replace(config, total_steps=total_steps)
    sweep = {name: tuple(values) for name, values in manifest["sweep"].items()}
    reserve_cpu_devices(len(members_of(config, manifest["num_seeds"], sweep)))
    terminal = Terminal(console)
    run = CompiledSession(config, run_dir, manifest["num_seeds"], sweep, terminal)
    run.restore()
    return run.train()
