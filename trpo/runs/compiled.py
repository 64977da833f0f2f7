"""`trpo train --compiled`: one run, or the members of many, in one program."""

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from trpo.agent.make import load_backend
from trpo.common.files import Folder
from trpo.common.framework_settings import reserve_cpu_devices
from trpo.common.terminal import Terminal
from trpo.common.validation import plain, shown
from trpo.config.agent import MEMBERS_OWN
from trpo.config.run import TrainConfig
from trpo.config.support import COMPILED, require_supported
from trpo.rollout.evaluation import EvaluationResult
from trpo.runs.directory import (
    LARGEST_CONFIG,
    MEMBERS,
    RunDirectory,
    RunDirectoryError,
)
from trpo.runs.driver import INTERIM_EPISODES, Driver, Subject
from trpo.runs.members import members_of


LONGEST_CHUNK = 1_000
"""Updates between two returns to the host: each keeps its metrics, and signals wait."""


def train_compiled(
    config: TrainConfig,
    run_dir: Path,
    *,
    num_seeds: int = 1,
    sweep: Mapping[str, Sequence[float]] | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> list[EvaluationResult]:
    """Train one run, or many at once, in one compiled program.

    A single run's files are those of `trpo.runs.train.train_run`; of many, each member
    has a directory of its own in `run_dir`, beside a table and a figure of all.

    Args:
        config: Configuration of the run, or of the first member.
        run_dir: Directory to write to; new or empty, or that of a run to continue.
        num_seeds: Seeds from `config.seed` up.
        sweep: Hyperparameter -> values; all combinations are run.
        resume: Continue from the newest step that all members have saved; who they are
            is read there.
        console: Where to print.

    Returns:
        The final evaluation of each member; none if stopped or not asked for.

    Raises:
        RunDirectoryError: the directory exists, or is that of no compiled run.
        CheckpointError: a member has no valid checkpoint.
        ValueError: the backend is not JAX, the environment is not functional, or a
            value is out of range.
    """
    run_dir, num_seeds = Path(run_dir), plain(num_seeds)
    sweep = {plain(n): tuple(map(plain, values)) for n, values in (sweep or {}).items()}
    if resume:
        num_seeds, sweep = read_members(run_dir, config)
    return compiled_run(config, run_dir, num_seeds, sweep, console).run(resume)


def compiled_run(
    config: TrainConfig,
    run_dir: Path,
    num_seeds: int,
    sweep: Mapping[str, Sequence[float]],
    console: Console | None = None,
) -> Driver:
    """A compiled run of which nothing is made yet; see `train_compiled`."""
    members = members_of(config, num_seeds, sweep)
    require_supported(COMPILED, config, config.agent, config.callbacks)
    reserve_cpu_devices(len(members))
    load_backend("jax")

    def make() -> Subject:
        intervals = filter(None, (config.checkpoint_interval, config.eval_interval))
        return importlib.import_module("trpo_jax.loop.trainer").CompiledTrainer(
            [member.config for member in members],
            longest_chunk=min([*intervals, config.num_updates, LONGEST_CHUNK]),
            episodes=max(config.eval_episodes, INTERIM_EPISODES),
        )

    return Driver(
        config,
        RunDirectory(run_dir),
        members,
        make,
        Terminal(console),
        manifest={"num_seeds": num_seeds, "sweep": sweep},
    )


def is_compiled_run(run_dir: Path) -> bool:
    """Whether a directory is that of a compiled run, of one member or of many."""
    return os.path.lexists(Path(run_dir) / MEMBERS)


def read_members(
    run_dir: Path, config: TrainConfig
) -> tuple[int, dict[str, tuple[float, ...]]]:
    """Seeds and swept values of a compiled run.

    Raises:
        RunDirectoryError: it is no such run, or `config` can't have these members.
        FileError: its manifest is no regular file, or no JSON.
    """
    path = run_dir / MEMBERS
    try:
        with Folder(run_dir) as folder:
            manifest = folder.read_json(MEMBERS, LARGEST_CONFIG)
    except OSError as error:
        raise RunDirectoryError(
            f"`run_dir`: expected the directory of a compiled run, with a {MEMBERS}, "
            f"got {run_dir} ({error.strerror})."
        ) from error
    try:
        if not isinstance(manifest, dict) or set(manifest) != {"num_seeds", "sweep"}:
            raise ValueError(
                f"expected `num_seeds` and `sweep`, got {shown(manifest)}."
            )
        sweep = manifest["sweep"]
        if not isinstance(sweep, dict) or not set(sweep) <= set(MEMBERS_OWN):
            raise ValueError(
                f"`sweep`: expected names among {', '.join(MEMBERS_OWN)}, got "
                f"{shown(sweep)}."
            )
        for name, values in sweep.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"`{name}`: expected numbers, got {shown(values)}.")
        members_of(config, manifest["num_seeds"], sweep)
    except ValueError as error:
        raise RunDirectoryError(f"{path}: {error}") from error
    return manifest["num_seeds"], {name: tuple(sweep[name]) for name in sweep}
