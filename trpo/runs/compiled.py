"""A compiled run on disk: what each member writes, and what is written of all."""

import contextlib
import importlib
import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from trpo.agent.make import load_backend
from trpo.callbacks.base import Callbacks, Run
from trpo.callbacks.builtin import configured_callbacks
from trpo.common.closing import closing, noting_failure
from trpo.common.files import Folder
from trpo.common.framework_settings import reserve_cpu_devices
from trpo.common.signals import StopRequest, stop_signals
from trpo.common.terminal import Terminal
from trpo.common.validation import plain, shown
from trpo.config.agent import MEMBERS_OWN
from trpo.config.run import TrainConfig
from trpo.config.support import COMPILED, require_supported
from trpo.rollout.evaluation import EvaluationResult
from trpo.runs.checkpoint import Checkpoint
from trpo.runs.checkpoint_fit import require_fit, restoring
from trpo.runs.directory import (
    EVALUATION,
    LARGEST_CONFIG,
    RunDirectory,
    RunDirectoryError,
    quoted_run,
    to_resume,
)
from trpo.runs.members import members_of, write_members
from trpo.runs.metrics import MetricsWriter
from trpo.runs.progress_bar import ProgressDisplay
from trpo.runs.saver import Saves, warn_of
from trpo.runs.train import (
    EVALUATION_COLUMNS,
    INTERIM_EPISODES,
    describe,
    evaluation_json,
    resumed_config,
    warn_of_other_bits,
)
from trpo.training.progress import COLUMNS, Progress


MANIFEST = "compiled.json"
LONGEST_CHUNK = 1_000
"""Updates between two returns to the host: each keeps its metrics, and signals wait."""


class CompiledSession:
    """A compiled run: its members, their directories and the program that trains them.

    Args:
        config: Configuration of the run, or of the first member.
        path: Directory of the run.
        num_seeds: Seeds from `config.seed` up.
        sweep: Hyperparameter -> values.
        terminal: Where to print.

    Raises:
        ValueError: the backend is not JAX, the environment is not functional, or a
            value is out of range.
    """

    def __init__(
        self,
        config: TrainConfig,
        path: Path,
        num_seeds: int,
        sweep: dict[str, tuple[float, ...]],
        terminal: Terminal,
    ) -> None:
        self.config, self.path, self.terminal = config, path, terminal
        self.members = members_of(config, num_seeds, sweep)
        self.manifest = {"num_seeds": num_seeds, "sweep": sweep}
        self.root = RunDirectory(path)
        self.directories = [self.root]
        if self.many:
            self.directories = [self.root.at(path / m.name) for m in self.members]
        require_supported(COMPILED, config, config.agent, config.callbacks)
        self.callbacks = [
            Callbacks(configured_callbacks(member.config)) for member in self.members
        ]
        load_backend("jax")
        self.trainer: Any = None

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """Make the directories, and hold them until the block ends.

        Raises:
            RunDirectoryError: something is there already.
            FileError: another process writes there.
        """
        self._make_trainer()
        with self._held(resume=False):
            self._describe()
            yield

    @contextlib.contextmanager
    def resumed(self) -> Iterator[None]:
        """Continue from the checkpoints, and hold the directories likewise.

        Raises:
            CheckpointError: a member has no valid one.
            FileError: another process writes there.
        """
        with self._held(resume=True):
            # Before anything is made, of sizes that may be a stranger's.
            checkpoints = self._checkpoints_to_resume()
            self._make_trainer()
            if checkpoints:
                with restoring(checkpoints[0]):
                    self.trainer.set_state(
                        [checkpoint.arrays for checkpoint in checkpoints]
                    )
            for asked, checkpoint in zip(self.callbacks, checkpoints, strict=False):
                with restoring(checkpoint):
                    asked.set_state(checkpoint.metadata.get("callbacks", {}))
            self._describe()
            at = f"continuing {len(self.members)} member(s)"
            self.terminal.say(f"{at} at step {self.trainer.step_count:,}")
            for checkpoint in checkpoints[:1]:
                warn_of_other_bits(self.config, checkpoint, self.terminal)
            yield

    @contextlib.contextmanager
    def _held(self, *, resume: bool) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for directory in dict.fromkeys([self.root, *self.directories]):
                stack.enter_context(directory.held_for(resume))
            yield

    def _make_trainer(self) -> None:
        config = self.config
        module = importlib.import_module("trpo_jax.loop.trainer")
        self.trainer = module.CompiledTrainer(
            [member.config for member in self.members],
            longest_chunk=min([*self._intervals(), config.num_updates, LONGEST_CHUNK]),
            episodes=config.eval_episodes or INTERIM_EPISODES,
        )

    def _intervals(self) -> list[int]:
        """Updates between returns to the host."""
        config = self.config
        return [n for n in (config.checkpoint_interval, config.eval_interval) if n]

    @property
    def many(self) -> bool:
        """Whether there is a directory for each member, and a table of all."""
        return len(self.members) > 1

    def _describe(self) -> None:
        """Write what the run and its members are."""
        text = json.dumps(self.manifest, indent=2)
        with self.root.opened() as folder:
            folder.keep(MANIFEST, f"{text}\n".encode())
        self.root.write_config(self.config)
        for directory, member in zip(self.directories, self.members, strict=True):
            directory.write_config(member.config)

    def _checkpoints_to_resume(self) -> list[Checkpoint]:
        """Each member's checkpoint of the newest step that all members have.

        Empty if the run was killed before all had their first: it begins again.
        """
        saved = [d for d in self.directories if d.has_checkpoint()]
        checkpoints = [directory.load()[0] for directory in saved]
        config = self.config
        first = config.checkpoint_interval * config.num_envs * config.rollout_steps
        if len(saved) < len(self.directories) and all(
            c.step <= first for c in checkpoints
        ):
            return []
        checkpoints = [directory.load()[0] for directory in self.directories]
        step = min(checkpoint.step for checkpoint in checkpoints)
        # Later ones are of before the members that are behind had saved.
        checkpoints = [directory.load(step)[0] for directory in self.directories]
        for member, checkpoint in zip(self.members, checkpoints, strict=True):
            require_fit(member.config, checkpoint)
        return checkpoints

    def train(self, signals: StopRequest) -> list[EvaluationResult]:
        """Train to the end or until a signal comes, write everything, evaluate."""
        trainer, config = self.trainer, self.config
        count = len(self.members)
        total = count * config.num_updates * config.num_envs * config.rollout_steps
        evaluations: list[EvaluationResult] = []
        with contextlib.ExitStack() as stack:
            display = stack.enter_context(
                ProgressDisplay(self.terminal, total, count * trainer.step_count)
            )
            writers = [
                directory.metrics_writer(
                    COLUMNS + EVALUATION_COLUMNS, trainer.step_count
                )
                for directory in self.directories
            ]
            for writer in writers:
                stack.enter_context(closing(writer.close))
            saver = MembersSaver(self)
            for index, asked in enumerate(self.callbacks):
                stack.enter_context(closing(asked.end))
                asked.start(self._run_of(index))
            try:
                while trainer.update_count < config.num_updates and not (
                    signals.is_set() or self.stopped
                ):
                    evaluations = self._advance(signals, saver, writers, display)
            except BaseException as cause:
                with noting_failure(cause):
                    saver.save_if_new()
                    at = f"stopped at step {trainer.step_count:,}"
                    self.terminal.say(f"{at}; {saver.how_to_go_on}")
                raise
            saver.save_last()
        if trainer.update_count < config.num_updates and not self.stopped:
            evaluations = []
        elif config.eval_episodes and signals.is_set():
            evaluations = []
            self.terminal.say("interrupted: not evaluated")
        elif config.eval_episodes and not evaluations:
            # Only now that all is saved.
            evaluations = trainer.advance(0, evaluate=True).evaluations
        return self._finish(evaluations if config.eval_episodes else [])

    def _advance(
        self,
        signals: StopRequest,
        saver: "MembersSaver",
        writers: Sequence[MetricsWriter],
        display: ProgressDisplay,
    ) -> list[EvaluationResult]:
        """Train until something is due on the host, and do it."""
        trainer, config = self.trainer, self.config
        target = self._next_stop(trainer.update_count)
        last = target == config.num_updates
        due = bool(config.eval_interval) and target % config.eval_interval == 0
        chunk = trainer.advance(target - trainer.update_count, evaluate=due)
        self._write(writers, chunk.progress, chunk.evaluations if due else [])
        display.show(_average([rows[-1] for rows in chunk.progress]))
        ends = last or signals.is_set() or self.stopped
        if ends or target % config.checkpoint_interval == 0:
            saver.save([rows[-1] for rows in chunk.progress])
        return chunk.evaluations

    def _next_stop(self, update: int) -> int:
        """The next update after which something is due on the host."""
        stops = [(update // n + 1) * n for n in self._intervals()]
        stops.append(update + self.trainer.longest_chunk)
        return min([*stops, self.config.num_updates])

    @property
    def stopped(self) -> bool:
        """Whether callbacks have stopped the run: each member's, at some update."""
        return all(asked.stop is not None for asked in self.callbacks)

    def _write(
        self,
        writers: Sequence[MetricsWriter],
        progress: Sequence[Sequence[Progress]],
        evaluations: Sequence[EvaluationResult],
    ) -> None:
        events: list[tuple[int, Progress, EvaluationResult | None]] = []
        for index, (writer, rows) in enumerate(zip(writers, progress, strict=True)):
            for row in rows:
                result = None
                metrics = {"update": row.update, **row.metrics}
                if evaluations and row is rows[-1]:
                    result = evaluations[index]
                    # Its time is not known: it is part of the program.
                    scores = (result.mean, result.std)
                    metrics |= dict(zip(EVALUATION_COLUMNS, scores, strict=False))
                metrics["policy/target_kl"] = self._target_kl(index, row)
                if (error := writer.write(row.step, metrics)) is not None:
                    warn_of(self.terminal, "a row of metrics was left out", error)
                events.append((index, Progress(row.update, row.step, metrics), result))
        # Only now: all rows are there if one of the callbacks fails.
        for index, row, result in events:
            self.callbacks[index].on_update(row)
            if result is not None:
                self.callbacks[index].on_evaluation(row, result)

    def _target_kl(self, index: int, row: Progress) -> float:
        """The radius of this update, by the schedule that the program follows too."""
        spread = row.metrics["rollout/advantage_std"]
        return self.members[index].config.numbers_at(row.update - 1, spread).target_kl

    def _run_of(self, index: int) -> Run:
        """The run of a member, for its callbacks."""
        config, trainer = self.members[index].config, self.trainer

        def save(path: Path, note: dict) -> Path:
            return (
                self.directories[index]
                .at(path)
                .keep_only(
                    config,
                    trainer.environment.spec.head,
                    trainer.step_count,
                    trainer.get_state(index),
                    {"callbacks": self.callbacks[index].get_state(), **note},
                )
            )

        return Run(config, None, self.directories[index].path, save)

    def _finish(self, evaluations: list[EvaluationResult]) -> list[EvaluationResult]:
        """Figures, tables and what to do next."""
        config, first = self.config, self.directories[0].path
        name = config.env_id
        for directory, member in zip(self.directories, self.members, strict=True):
            with self.terminal.warning_if_it_fails("no learning curve was drawn"):
                directory.draw_learning_curve(f"{name}, jax, compiled, {member.name}")
        for directory, result in zip(self.directories, evaluations, strict=False):
            directory.write(EVALUATION, f"{evaluation_json(result)}\n".encode())
        if self.many:
            steps = self.trainer.step_count
            with self.terminal.warning_if_it_fails("no table or figure of all members"):
                write_members(self.root, name, self.members, steps, evaluations)
        for member, result in zip(self.members, evaluations, strict=False):
            label = f"{member.name}: " if self.many else ""
            self.terminal.say(f"{label}{describe(result)}")
        for member, asked in zip(self.members, self.callbacks, strict=True):
            if self.stopped and asked.stop is not None:
                self.terminal.say(f"{member.name}: {asked.stop.reason}")
        done = self.trainer.update_count >= self.config.num_updates
        self.terminal.say(
            f"{'saved' if done else 'stopped and saved'} in {self.path}, a run "
            f"directory{' for each member' if self.many else ''}",
            f"  evaluate:   trpo evaluate {quoted_run(first, config)}",
            f"  train on:   {to_resume(self.path, config)} "
            f"--total-steps {(2 if done else 1) * config.total_steps}",
        )
        return evaluations


class MembersSaver(Saves):
    """Writes checkpoints of all members of a compiled run.

    Args:
        session: The run; its trainer is made.
    """

    def __init__(self, session: CompiledSession) -> None:
        command = to_resume(session.path, session.config)
        super().__init__(session.trainer, session.terminal, command)
        self.session = session

    def _write(self) -> list[Path]:
        trainer, session = self.trainer, self.session
        step = trainer.step_count
        members = list(zip(session.directories, session.members, strict=True))
        paths = [
            directory.save_state(
                member.config,
                trainer.environment.spec.head,
                step,
                trainer.get_state(index),
                note={"callbacks": session.callbacks[index].get_state()},
                prune=False,
            )
            for index, (directory, member) in enumerate(members)
        ]
        # Only now: at every moment there is a step of which all have a checkpoint.
        for directory, member in members:
            directory.prune(member.config, step)
        return paths

    def _tell_callbacks(
        self, progress: Sequence[Progress], written: Sequence[Path]
    ) -> None:
        events = zip(self.session.callbacks, progress, written, strict=True)
        for asked, row, path in events:
            asked.on_checkpoint(row, path)


def _average(members: Sequence[Progress]) -> Progress:
    """Progress of many members for one line: means, and the worst status."""
    first = members[0]
    names = ("rollout/episode_return_mean", "policy/kl")
    metrics = {
        name: statistics.fmean(m.metrics[name] for m in members)
        for name in names
        if all(name in m.metrics for m in members)
    }
    metrics["policy/status"] = max(m.metrics["policy/status"] for m in members)
    return Progress(first.update, first.step * len(members), metrics)


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
            manifest = folder.read_json(MANIFEST, LARGEST_CONFIG)
    except OSError as error:
        raise RunDirectoryError(
            f"`run_dir`: expected the directory of a compiled run, with a {MANIFEST}, "
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
