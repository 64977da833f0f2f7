"""`trpo train --compiled`: one run, or the members of many, in one program."""

import contextlib
import dataclasses
import importlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from rich.console import Console

from trpo.agent.make import load_backend
from trpo.callbacks.base import Callback, CallbackLike, Callbacks, Run
from trpo.callbacks.builtin import configured_callbacks
from trpo.common.closing import closing
from trpo.common.files import Folder
from trpo.common.framework_settings import reserve_cpu_devices
from trpo.common.terminal import Terminal
from trpo.common.validation import plain, shown
from trpo.config.agent import MEMBERS_OWN
from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig
from trpo.config.schedules import Schedule
from trpo.config.support import COMPILED, require_supported
from trpo.environments.source import EnvironmentSource
from trpo.rollout.evaluation import EvaluationResult
from trpo.runs.directory import (
    LARGEST_CONFIG,
    MEMBERS,
    RunDirectory,
    RunDirectoryError,
)
from trpo.runs.driver import Driver, MemberCallbacks
from trpo.runs.members import members_of
from trpo.training.progress import EVALUATION_COLUMNS, Progress
from trpo.training.python_arguments import PythonArguments
from trpo.training.state import agent_state


LONGEST_CHUNK = 1_000
"""Updates between two returns to the host: each keeps its metrics, and signals wait."""


def train_compiled_run(
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
    callbacks: MemberCallbacks = (),
    arguments: PythonArguments = PythonArguments(),  # noqa: B008 (frozen)
) -> Driver:
    """A compiled run of which nothing is made yet; see `train_compiled_run`."""
    config = arguments.applied(config)
    members = members_of(config, num_seeds, sweep)
    _prepare(config, len(members))
    return Driver(
        config,
        RunDirectory(run_dir),
        members,
        lambda: _trainer([member.config for member in members], arguments),
        Terminal(console),
        callbacks=callbacks,
        arguments=arguments,
        manifest={"num_seeds": num_seeds, "sweep": sweep},
    )


def _prepare(config: TrainConfig, count: int) -> None:
    """Refuse what can't be compiled; import JAX with devices for so many members."""
    require_supported(COMPILED, config, config.agent, config.callbacks)
    reserve_cpu_devices(count)
    load_backend("jax")


def _trainer(configs: Sequence[TrainConfig], arguments: PythonArguments) -> Any:
    """JAX's `CompiledTrainer`."""
    config = configs[0]
    intervals = filter(None, (config.checkpoint_interval, config.eval_interval))
    return importlib.import_module("trpo_jax.loop.trainer").CompiledTrainer(
        configs,
        longest_chunk=min([*intervals, config.num_updates, LONGEST_CHUNK]),
        episodes=max(config.eval_episodes, config.eval_interval_episodes),
        arguments=arguments,
    )


class CompiledResult(NamedTuple):
    """What `train_compiled` has learned: S seeds, U updates.

    Attributes:
        seeds: [S] of the members.
        steps: [U] environment steps of each member after each update.
        curves: metric -> [S, U]; NaN where an update has none, as before the first
            episode has ended.
        returns: [S, episodes] undiscounted raw returns of the final evaluation; of none
            if there was none, or a signal has stopped the training.
        agents: [S] trained; each acts, is saved and goes on as any other.
    """

    seeds: np.ndarray
    steps: np.ndarray
    curves: dict[str, np.ndarray]
    returns: np.ndarray
    agents: list[Any]

    @property
    def final_returns(self) -> np.ndarray:
        """[S] means over the episodes."""
        return self.returns.mean(axis=1)


class _Rows(Callback):
    """Keeps the rows of a member."""

    def __init__(self) -> None:
        self.rows: list[Progress] = []

    def on_row(self, progress: Progress) -> None:
        """Keep it."""
        self.rows.append(progress)


def train_compiled(
    env: str | TrainConfig | gymnasium.Env | Callable[[], gymnasium.Env],
    seeds: Sequence[int] = (0,),
    *,
    run_dir: Path | str | None = None,
    resume: bool = False,
    callbacks: MemberCallbacks = (),
    policy_network: Any = None,
    value_network: Any = None,
    schedules: Mapping[str, Schedule] | None = None,
    **settings: Any,
) -> CompiledResult:
    """Train an agent of each seed at once, in one JAX program that has the environment.

    Args:
        env: A functional environment: Gymnasium's id, a whole configuration, a
            `FunctionalJaxEnv` in a `TimeLimit`, or a function that makes one.
        seeds: Of the members; those of a run directory follow each other.
        run_dir: Directory to write to, as `trpo train --compiled` does; None for none.
        resume: Go on with the run that is there.
        callbacks: Told of each member in turn; or a function from its seed to a
            member's own.
        policy_network: A module of Flax, or a function that makes it; see
            `trpo.agent.make.make_agent`.
        value_network: Likewise.
        schedules: See `Trainer`.
        settings: Fields of `TrainConfig` and `TRPOConfig`, by name.

    Raises:
        ValueError: the environment is not functional, a value is out of range, or a
            callback needs a directory that there is not.
        RunDirectoryError: the directory exists, or is none to resume.
        MissingBackendError: JAX is not installed.
    """
    made = None if isinstance(env, str | TrainConfig) else env
    arguments = PythonArguments(made, policy_network, value_network, schedules)
    seeds = _checked_seeds(seeds, run_dir is not None)
    if isinstance(env, TrainConfig):
        config = dataclasses.replace(env, **settings) if settings else env
    else:
        config = preset_config(EnvironmentSource.of(env).name, **settings)
    config = arguments.applied(dataclasses.replace(config, seed=seeds[0]))
    kept = [_Rows() for _ in seeds]

    def of(seed: int) -> list[CallbackLike]:
        own = callbacks(seed) if callable(callbacks) else callbacks
        return [*own, kept[seeds.index(seed)]]

    if run_dir is not None:
        where = config, Path(run_dir), len(seeds), {}, None
        driver = compiled_run(*where, of, arguments)
        results, trainer = driver.run(resume), driver.subject
    else:
        _prepare(config, len(seeds))
        configs = [dataclasses.replace(config, seed=seed) for seed in seeds]
        trainer = _trainer(configs, arguments)
        results = _in_memory(trainer, config, seeds, of)
    return _result(trainer, seeds, [one.rows for one in kept], results)


def _checked_seeds(seeds: Sequence[int], on_disk: bool) -> list[int]:
    numbers = [plain(seed) for seed in seeds]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"`seeds`: expected distinct numbers, got {shown(numbers)}.")
    if on_disk and numbers != [*range(numbers[0], numbers[0] + len(numbers))]:
        raise ValueError(
            "`seeds`: expected numbers that follow each other, by which a run "
            f"directory finds its members again, got {shown(numbers)}."
        )
    return numbers


def _in_memory(
    trainer: Any,
    config: TrainConfig,
    seeds: Sequence[int],
    of: Callable[[int], list[CallbackLike]],
) -> list[EvaluationResult]:
    """Train to the end, or until the callbacks of all have stopped; evaluate."""
    members = []
    for seed in seeds:
        own = dataclasses.replace(config, seed=seed)
        callbacks = Callbacks([*configured_callbacks(own), *of(seed)])
        members.append((own, callbacks))
    interval = config.eval_interval or config.num_updates
    with contextlib.ExitStack() as ends:
        for own, callbacks in members:
            ends.enter_context(closing(callbacks.end))
            callbacks.start(Run(own))
        while trainer.update_count < config.num_updates and not all(
            callbacks.stop for _, callbacks in members
        ):
            left = min(config.num_updates - trainer.update_count,
                       interval - trainer.update_count % interval)  # fmt: skip
            progress = trainer.advance(min(left, trainer.longest_chunk))
            due = config.eval_interval and trainer.update_count % interval == 0
            results = trainer.evaluate(config.eval_interval_episodes) if due else []
            for index, (_, callbacks) in enumerate(members):
                for row in progress[index]:
                    last = row is progress[index][-1]
                    result = results[index] if results and last else None
                    if result is not None:
                        values = (result.mean, result.std)
                        row.metrics.update(zip(EVALUATION_COLUMNS, values))  # noqa: B905
                    callbacks.on_update(row, result)
                    callbacks.on_row(row)
    return trainer.evaluate(config.eval_episodes) if config.eval_episodes else []


def _result(
    trainer: Any,
    seeds: Sequence[int],
    rows: Sequence[Sequence[Progress]],
    results: Sequence[EvaluationResult],
) -> CompiledResult:
    names = dict.fromkeys(n for member in rows for row in member for n in row.metrics)
    curves = {
        name: np.array(
            [[row.metrics.get(name, math.nan) for row in member] for member in rows]
        )
        for name in names
    }
    returns = [result.returns for result in results] or np.zeros((len(seeds), 0))
    agents = trainer.agents
    for index, agent in enumerate(agents):
        agent.set_state(agent_state(trainer.get_state(index)))
    steps = np.array([row.step for row in rows[0]])
    return CompiledResult(np.array(seeds), steps, curves, np.array(returns), agents)


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
