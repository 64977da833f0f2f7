"""`trpo train` on the host."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from trpo.callbacks.base import CallbackLike
from trpo.common.terminal import Terminal
from trpo.common.user_modules import import_modules, with_project
from trpo.config.run import TrainConfig
from trpo.config.schedules import Schedule
from trpo.rollout.evaluation import EvaluationResult
from trpo.runs.checkpoint import Checkpoint
from trpo.runs.directory import RunDirectory
from trpo.runs.driver import Driver
from trpo.runs.members import NamedMember
from trpo.training.python_arguments import PythonArguments
from trpo.training.state import agent_state
from trpo.training.trainer import Trainer


def train_run(
    config: TrainConfig,
    run_dir: Path | str | RunDirectory,
    *,
    resume: bool | None = False,
    console: Console | None = None,
    callbacks: Sequence[CallbackLike] = (),
    env: Any = None,
    policy_network: Any = None,
    value_network: Any = None,
    schedules: Mapping[str, Schedule] | None = None,
    start_from: Path | str | None = None,
    make_trainer: Callable[..., Trainer] = Trainer,
) -> EvaluationResult | None:
    """Train into a run directory; continue it if `resume`.

    SIGINT, SIGTERM, SIGHUP and SIGUSR1 end the run after the present update, with a
    checkpoint; a second SIGINT interrupts at once.

    Args:
        config: Configuration of the run.
        run_dir: Directory to write to; no other process may do so meanwhile.
        resume: Continue from the directory's newest valid checkpoint; None does so if
            it has one, and begins otherwise, whatever a run that was killed has left.
        console: Where to print.
        callbacks: Asked after those of `config.callbacks`; see `trpo.callbacks.base`. A
            resumed run has to be given them again, and restores their state.
        env: What makes the environment, see `Trainer`; like those that follow, a
            resumed run is to be given it again, unless the configuration names it.
        policy_network: Likewise.
        value_network: Likewise.
        schedules: Likewise.
        start_from: A run with whose weights and normaliser a new one begins.
        make_trainer: Another trainer than this process's own.

    Returns:
        The final evaluation, or None if there was none.

    Raises:
        RunDirectoryError: the directory exists, or is no run to resume.
        FileError: another process writes to it.
        CheckpointError: no checkpoint is valid.
        ValueError: the configuration can't be used.
    """
    import_modules(config.modules)
    if not isinstance(run_dir, RunDirectory):
        run_dir = RunDirectory(Path(run_dir))
    arguments = PythonArguments(env, policy_network, value_network, schedules)
    config = arguments.applied(config)

    driver = Driver(
        config,
        run_dir,
        [NamedMember(f"seed {config.seed}", config, {})],
        lambda: _made(make_trainer(config, **arguments.options()), start_from),
        Terminal(console),
        callbacks=callbacks,
        arguments=arguments,
    )
    return next(iter(driver.run(resume)), None)


def _made(trainer: Trainer, start_from: Path | str | None) -> Trainer:
    """The trainer, with the weights to start from; closed if they are not for it."""
    with contextlib.ExitStack() as if_it_fails:
        if_it_fails.callback(trainer.close)
        if start_from is not None:
            _take_weights(trainer, RunDirectory(Path(start_from)).load()[0])
        if_it_fails.pop_all()
    return trainer


def _take_weights(trainer: Trainer, start: Checkpoint) -> None:
    """Have the agent begin with the weights of another run's checkpoint.

    Raises:
        ValueError: it has other networks, or other observations.
    """
    own, saved = trainer.agent.get_state(), agent_state(start.arrays)

    def kept(state: Mapping[str, Any]) -> dict[str, Any]:
        """Not the optimisers, whose settings may be others, and no random streams."""
        return {
            name: array
            for name, array in state.items()
            if not name.startswith("random.") and "optimizer." not in name
        }

    others = {name: own[name] for name in own.keys() - kept(own).keys()}
    try:
        trainer.agent.set_state(others | kept(saved))
    except ValueError as error:
        raise ValueError(
            f"`from`: expected a run whose networks and observations are those of the "
            f"new one, got {start.path}: {error}"
        ) from error


def resumed_config(
    run_dir: Path,
    total_steps: int | None = None,
    modules: Sequence[str] = (),
    trust: bool = False,
    wandb_project: str | None = None,
) -> TrainConfig:
    """The configuration of a run to go on with, with another budget if one is given.

    `modules` and `trust` are those of `RunDirectory.read_config`; `wandb_project` is
    that of `user_modules.with_project`.
    """
    config = RunDirectory(run_dir).read_config(modules, trust=trust)
    config = with_project(config, wandb_project, trust, str(run_dir))
    if total_steps is None:
        return config
    return dataclasses.replace(config, total_steps=total_steps)
