"""`trpo train` and `trpo evaluate`."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from trpo.callbacks.base import CallbackLike, Callbacks, Run
from trpo.callbacks.builtin import configured_callbacks
from trpo.common.closing import closing, noting_failure
from trpo.common.signals import StopRequest, stop_signals
from trpo.common.terminal import Terminal, quoted
from trpo.common.user_modules import import_modules, with_project
from trpo.common.validation import shown
from trpo.config.run import TrainConfig
from trpo.environments.source import EnvironmentSource
from trpo.rollout.evaluation import EvaluationResult, evaluate, record_video
from trpo.runs.checkpoint import Checkpoint
from trpo.runs.checkpoint_fit import require_fit, restoring
from trpo.runs.directory import (
    EVALUATION,
    RunDirectory,
    computed_otherwise,
    load_agent,
    networks_note,
    quoted_run,
    to_resume,
)
from trpo.runs.progress_bar import EvaluationDisplay, ProgressDisplay
from trpo.runs.saver import Saver, warn_of
from trpo.training.costs import cost_columns
from trpo.training.progress import COLUMNS, Progress
from trpo.training.trainer import Trainer


EVALUATION_COLUMNS = (
    "evaluation/return_mean",
    "evaluation/return_std",
    "time/evaluation_seconds",
)
# Episodes of an evaluation in the middle of training.
INTERIM_EPISODES = 5


def train_run(
    config: TrainConfig,
    run_dir: Path | RunDirectory,
    *,
    resume: bool | None = False,
    console: Console | None = None,
    callbacks: Sequence[CallbackLike] = (),
    make_trainer: Callable[[TrainConfig], Trainer] = Trainer,
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
        make_trainer: Another trainer than this process's own.

    Returns:
        The final evaluation, or None if there was none.

    Raises:
        RunDirectoryError: the directory exists, or is no run to resume.
        FileError: another process writes to it.
        CheckpointError: no checkpoint is valid.
        ValueError: the configuration can't be used.
    """
    terminal = Terminal(console)
    import_modules(config.modules)
    directory = run_dir if isinstance(run_dir, RunDirectory) else RunDirectory(run_dir)
    asked = Callbacks([*configured_callbacks(config), *callbacks])
    with stop_signals() as signals, directory.held_for(resume):
        checkpoint = None
        if resume or (resume is None and directory.has_checkpoint()):
            # Before anything is made, of sizes that may be a stranger's.
            checkpoint = _checkpoint_to_resume(
                config, directory, terminal, make_trainer is not Trainer
            )
        else:
            directory.write_config(config)
        with _beginning(directory, checkpoint is None):
            trainer = make_trainer(config)
        with closing(trainer.close):
            saver = Saver(trainer, directory, terminal, asked)
            if checkpoint is not None:
                _restored(saver, checkpoint)
            with closing(asked.end):
                with _beginning(directory, checkpoint is None):
                    asked.start(_run_of(trainer, directory, asked))
                    note = {"callbacks": asked.get_state()}
                    directory.require_saveable(trainer, note)
                _train(trainer, saver, signals)
            return _finish(saver, signals)


def _restored(saver: Saver, checkpoint: Checkpoint) -> None:
    with restoring(checkpoint):
        saver.restore(checkpoint)
    config = saver.trainer.config
    warn_of_other_bits(config, checkpoint, saver.terminal)
    saver.directory.write_config(config)


@contextlib.contextmanager
def _beginning(directory: RunDirectory, new: bool) -> Iterator[None]:
    """A run that can't start leaves nothing that would be in the next one's way."""
    try:
        yield
    except BaseException as cause:
        if new:
            with noting_failure(cause):
                directory.discard()
        raise


def _run_of(trainer: Trainer, directory: RunDirectory, asked: Callbacks) -> Run:
    """This run, for its callbacks."""

    def save(path: Path, note: dict) -> Path:
        return directory.at(path).keep_only(
            trainer.config,
            trainer.collector.spec.head,
            trainer.step_count,
            trainer.get_state(),
            {
                "callbacks": asked.get_state(),
                **networks_note(trainer.agent),
                **note,
            },
        )

    return Run(trainer.config, trainer.agent, directory.path, save)


def _checkpoint_to_resume(
    config: TrainConfig, directory: RunDirectory, terminal: Terminal, own_networks: bool
) -> Checkpoint:
    """The checkpoint to continue from, which fits."""
    checkpoint, broken = directory.load()
    for message in broken:
        terminal.say(f"skipped a broken checkpoint: {message}", style="yellow")
    for name, (before, now) in require_fit(config, checkpoint, own_networks).items():
        terminal.say(f"goes on with {name} {shown(now)}, and no more {shown(before)}")
    return checkpoint


def warn_of_other_bits(
    config: TrainConfig, checkpoint: Checkpoint, terminal: Terminal
) -> None:
    """Say so where a run can't go on as it would have, to the last bit."""
    for what in computed_otherwise(config, checkpoint):
        terminal.say(
            f"goes on with {what}: as well as before, but not bit for bit what it "
            "would have been",
            style="yellow",
        )


def _train(trainer: Trainer, saver: Saver, signals: StopRequest) -> None:
    config, terminal, asked = trainer.config, saver.terminal, saver.asked
    columns = COLUMNS + cost_columns(config) + EVALUATION_COLUMNS
    writer = saver.directory.metrics_writer(columns, saver.logged_step)
    total = config.num_updates * config.num_envs * config.rollout_steps

    def ended() -> bool:
        return signals.is_set() or asked.stop is not None

    with (
        closing(writer.close),
        ProgressDisplay(terminal, total, trainer.step_count) as display,
    ):
        trainer.collector.on_step = display.stepping
        try:
            progress = None
            while not (saver.complete or ended()):
                progress = saver.due or trainer.train_once(asked.on_rollout)
                saver.due = progress
                result = _interim(trainer, progress, terminal, signals)
                if result is not None and result.interrupted:
                    break
                saver.due = None
                row = {"update": progress.update, **progress.metrics}
                if (error := writer.write(progress.step, row)) is not None:
                    warn_of(terminal, "a row of metrics was left out", error)
                display.show(progress)
                asked.on_update(progress)
                if result is not None:
                    asked.on_evaluation(progress, result)
                if ended() or progress.update % config.checkpoint_interval == 0:
                    saver.save(progress)
        except BaseException as cause:
            with noting_failure(cause):
                saver.save_if_new()  # The state after the last whole update.
            at = f"stopped at step {trainer.step_count:,}"
            terminal.say(f"{at}; {saver.how_to_go_on}")
            raise
    saver.save_last(None if saver.due else progress)


def _interim(
    trainer: Trainer, progress: Progress, terminal: Terminal, signals: StopRequest
) -> EvaluationResult | None:
    """The evaluation that is due after this update, if any; added to its metrics."""
    interval = trainer.config.eval_interval
    if not interval or progress.update % interval:
        return None
    start = time.perf_counter()
    result = _evaluate(trainer, INTERIM_EPISODES, terminal, signals)
    seconds = time.perf_counter() - start
    if not result.interrupted:
        values = (result.mean, result.std, seconds)
        progress.metrics.update(zip(EVALUATION_COLUMNS, values, strict=True))
    return result


def _evaluate(
    trainer: Trainer, episodes: int, terminal: Terminal, signals: StopRequest
) -> EvaluationResult:
    config = trainer.config
    return evaluate(
        trainer.agent,
        trainer.source,
        episodes=episodes,
        seed=config.seed,
        max_steps=config.eval_max_steps,
        stop=signals,
        show=EvaluationDisplay(terminal, episodes).show,
        **as_in_training(config),
    )


def as_in_training(config: TrainConfig) -> dict[str, Any]:
    """Arguments of `evaluate`: the kind of vector that the environment trained in."""
    return {
        "num_envs": config.num_envs,
        "vectorization": config.vectorization,
        "timeout": config.environment_timeout,
        "on_bad_data": config.on_bad_data,
    }


def _finish(saver: Saver, signals: StopRequest) -> EvaluationResult | None:
    """Draw, evaluate what is saved, and say what to do next."""
    trainer, directory, terminal = saver.trainer, saver.directory, saver.terminal
    config, path, stop = trainer.config, directory.path, saver.asked.stop
    title = f"{config.env_id}, {config.backend}, seed {config.seed}"
    with terminal.warning_if_it_fails("no learning curve was drawn"):
        directory.draw_learning_curve(title)
    if stop is not None:
        # By a callback: the run is as long as was wanted, so it is scored.
        terminal.say(f"stopped at step {trainer.step_count:,}: {stop.reason}")
    elif not saver.complete:
        terminal.say(
            f"stopped at step {trainer.step_count:,}; everything is saved in {path}",
            f"  continue:   {to_resume(path, config)}",
        )
        return None
    result = None
    if config.eval_episodes:
        result = _evaluate(trainer, config.eval_episodes, terminal, signals)
        terminal.say(describe(result))
        if trainer.costs is not None and trainer.costs.recent:
            terminal.say(
                "  by the most likely actions; training, which samples them, cost "
                f"{np.mean(trainer.costs.recent):.2f} in its last "
                f"{len(trainer.costs.recent)} episodes on average"
            )
    if result is not None and not result.interrupted:
        directory.write(EVALUATION, f"{evaluation_json(result)}\n".encode())
    terminal.say(
        f"saved in {path}: config.json, metrics.csv, tensorboard/, checkpoints/, "
        "learning_curve.png",
        f"  evaluate:   trpo evaluate {quoted_run(path, config)}",
        f"  train on:   {to_resume(path, config)} --total-steps "
        f"{2 * config.total_steps}",
        f"  watch:      tensorboard --logdir {quoted(path / 'tensorboard')}",
    )
    return None if result is not None and result.interrupted else result


def evaluate_run(
    run_dir: Path,
    *,
    episodes: int,
    backend: str | None,
    device: str,
    seed: int | None,
    deterministic: bool,
    video: Path | None,
    modules: Sequence[str] = (),
    trust: bool = False,
    max_steps: int | None = None,
) -> tuple[EvaluationResult, Path | None]:
    """Evaluate the newest checkpoint of a run; see `trpo evaluate --help`.

    SIGINT and its like end it with what there is.
    """
    agent, config = load_agent(
        run_dir, backend=backend, device=device, modules=modules, trust=trust
    )
    seed = config.seed if seed is None else seed
    most = config.eval_max_steps if max_steps is None else max_steps
    film, source = None, EnvironmentSource.of(config)
    with stop_signals() as signals:
        result = evaluate(
            agent,
            source,
            episodes=episodes,
            seed=seed,
            deterministic=deterministic,
            max_steps=most,
            stop=signals,
            show=EvaluationDisplay(Terminal(stderr=True), episodes).show,
            **as_in_training(config),
        )
        if video is not None and not result.interrupted:
            film = record_video(
                agent,
                source,
                seed=seed,
                directory=video,
                max_steps=most,
                stop=signals,
            )
    return result, film


def describe(result: EvaluationResult) -> str:
    """The line `return MEAN ± STD over N episodes`, with the cost if there is one.

    Of an evaluation that was interrupted, what it has so far.
    """
    under_way = result.only(result.under_way)
    count, cut = len(result.returns), len(under_way.returns)
    if not result.interrupted:
        return f"{_score(result)}{f', {cut} of them cut' if cut else ''}"
    ended = result.only(~result.under_way)
    said = _score(ended) if cut < count else "no episode has ended"
    if cut:
        said += (
            f"; of {cut} under way, after at most {under_way.lengths.max():,} steps, "
            f"{under_way.returns.min():.2f} to {under_way.returns.max():.2f} so far"
        )
    return f"interrupted: {said}"


def _score(result: EvaluationResult) -> str:
    count, cost = len(result.returns), ""
    if result.costs is not None:
        cost = f", cost {result.costs.mean():.2f} ± {result.costs.std():.2f}"
    return f"return {result.mean:.2f} ± {result.std:.2f}{cost} over {count} episodes"


def evaluation_json(result: EvaluationResult) -> str:
    """An evaluation as JSON."""
    values = {
        "mean": result.mean,
        "std": result.std,
        "episodes": len(result.returns),
        "returns": result.returns.tolist(),
        "lengths": result.lengths.tolist(),
        "cut": result.under_way.tolist(),
        "interrupted": result.interrupted,
        "dropped": result.dropped,
    }
    if result.costs is not None:
        values |= {"mean_cost": float(result.costs.mean())}
        values |= {"costs": result.costs.tolist()}
    return json.dumps(values)


def resumed_config(
    run_dir: Path,
    total_steps: int | None,
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
