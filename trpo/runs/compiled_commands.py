"""What the command line's `train --compiled` does: one program, one or many members."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from trpo.common.files import Folder
from trpo.common.signals import stop_signals
from trpo.common.terminal import Terminal
from trpo.common.validation import plain, shown
from trpo.config.run import TrainConfig
from trpo.rollout.evaluation import EvaluationResult
from trpo.runs.compiled import MANIFEST, CompiledSession
from trpo.runs.directory import LARGEST_CONFIG, RunDirectoryError
from trpo.runs.members import SWEEPABLE, members_of, reserve_cpu_devices
from trpo.runs.train import resumed_config


def is_compiled_run(run_dir: Path) -> bool:
    """Whether a directory is that of a compiled run, of one member or of many."""
    return os.path.lexists(Path(run_dir) / MANIFEST)


def read_members(
    run_dir: Path, config: TrainConfig
) -> tuple[int, dict[str, tuple[float, ...]]]:
    """Seeds and swept values of a compiled run.

    Raises:
        RunDirectoryError: it is no such run, or `config` can't have these members.
        FileError: its manifest is no regular file, or no JSON.
    """
    path = run_dir / MANIFEST
    try:
        with Folder(run_dir) as folder:
            found = folder.read_json(MANIFEST, LARGEST_CONFIG)
    except OSError as error:
        raise RunDirectoryError(
            f"`run_dir`: expected the directory of a compiled run, with a {MANIFEST}, "
            f"got {run_dir} ({error.strerror})."
        ) from error
    try:
        if not isinstance(found, dict) or set(found) != {"num_seeds", "sweep"}:
            raise ValueError(f"expected `num_seeds` and `sweep`, got {shown(found)}.")
        sweep = found["sweep"]
        if not isinstance(sweep, dict) or not set(sweep) <= set(SWEEPABLE):
            raise ValueError(
                f"`sweep`: expected names among {', '.join(SWEEPABLE)}, got "
                f"{shown(sweep)}."
            )
        for name, values in sweep.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"`{name}`: expected numbers, got {shown(values)}.")
        members_of(config, found["num_seeds"], sweep)
    except ValueError as error:
        raise RunDirectoryError(f"{path}: {error}") from error
    return found["num_seeds"], {name: tuple(sweep[name]) for name in sweep}


def train_compiled(
    config: TrainConfig,
    run_dir: Path,
    *,
    num_seeds: int = 1,
    sweep: Mapping[str, Sequence[float]] | None = None,
    console: Console | None = None,
) -> list[EvaluationResult]:
    """Train one run, or many at once, in one compiled program.

    A single run's files are those of `trpo.runs.train.train_run`; of many, each member
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
    with stop_signals() as signals:
        run = CompiledSession(config, Path(run_dir), plain(num_seeds), sweep, terminal)
        with run.begun():
            return run.train(signals)


def resume_compiled(
    run_dir: Path,
    total_steps: int | None = None,
    console: Console | None = None,
    modules: Sequence[str] = (),
    trust: bool = False,
    wandb_project: str | None = None,
) -> list[EvaluationResult]:
    """Continue a compiled run from the newest step that all members have saved.

    Args:
        run_dir: Directory that `train_compiled` wrote.
        total_steps: New budget of each member; by default the run's own.
        console: Where to print.
        modules: The user's own code that it needs, in place of what it names.
        trust: Let it import whatever it names, and upload to where it does.
        wandb_project: Of Weights & Biases, in place of what it names.

    Raises:
        UntrustedModuleError: it names code that the user has not named.
        UntrustedProjectError: or such a project of Weights & Biases.
        RunDirectoryError: it is no compiled run.
        CheckpointError: a member has no valid checkpoint.
    """
    run_dir = Path(run_dir)
    config = resumed_config(run_dir, total_steps, modules, trust, wandb_project)
    num_seeds, sweep = read_members(run_dir, config)
    reserve_cpu_devices(len(members_of(config, num_seeds, sweep)))
    terminal = Terminal(console)
    with stop_signals() as signals:
        run = CompiledSession(config, run_dir, num_seeds, sweep, terminal)
        with run.resumed():
            return run.train(signals)
