"""A compiled run on disk: what each member writes, and what is written of all."""

import contextlib
import csv
import importlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from trpo.backends import load_backend
from trpo.checkpoint import Checkpoint, load_checkpoint
from trpo.commands import (
    EVALUATION_COLUMNS,
    INTERIM_EPISODES,
    describe,
    evaluation_json,
    stop_signals,
)
from trpo.config import TrainConfig
from trpo.evaluation import EvaluationResult
from trpo.members import members_of
from trpo.metrics import MetricsWriter, read_metrics
from trpo.plots import plot_learning_curves
from trpo.progress import ProgressDisplay
from trpo.run_directory import RunDirectory
from trpo.training import COLUMNS, Progress


MANIFEST, TABLE = "compiled.json", "members.csv"


class CompiledSession:
    """A compiled run: its members, their directories and the program that trains them.

    Args:
        config: Configuration of the run, or of the first member.
        path: Directory of the run.
        num_seeds: Seeds from `config.seed` up.
        sweep: Hyperparameter -> values.
        console: Where to print.

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
        console: Console,
    ) -> None:
        self.config, self.path, self.console = config, path, console
        self.members = members_of(config, num_seeds, sweep)
        self.manifest = {"num_seeds": num_seeds, "sweep": sweep}
        alone = len(self.members) == 1
        self.directories = [
            RunDirectory(path if alone else path / member.name)
            for member in self.members
        ]
        if config.backend != "jax":
            raise ValueError(
                f"`backend`: expected 'jax' for compiled training, got "
                f"{config.backend!r}: PyTorch's loop runs on the host. Leave "
                "--compiled out, or take --backend jax."
            )
        load_backend("jax")
        module = importlib.import_module("trpo_jax.compiled_run")
        self.trainer: Any = module.CompiledTrainer(
            [member.config for member in self.members],
            longest_chunk=min([*self._intervals(), config.num_updates]),
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

    def create(self) -> None:
        """Make the directories, each with its configuration."""
        if self.many:
            root = RunDirectory(self.path)
            root.create(self.config)
            root.checkpoints.rmdir()  # Members have their own.
        for directory, member in zip(self.directories, self.members, strict=True):
            directory.create(member.config)
        (self.path / MANIFEST).write_text(json.dumps(self.manifest, indent=2) + "\n")

    def restore(self) -> None:
        """Continue from the newest step of which all members have a checkpoint."""
        found = [directory.load()[0] for directory in self.directories]
        step = min(checkpoint.step for checkpoint in found)
        found = [_at(checkpoint, step) for checkpoint in found]
        self.trainer.set_state([checkpoint.arrays for checkpoint in found])
        RunDirectory(self.path).write_config(self.config)
        for directory, member in zip(self.directories, self.members, strict=True):
            directory.write_config(member.config)
        self.console.print(f"continuing {len(found)} member(s) at step {step:,}")

    def train(self) -> list[EvaluationResult]:
        """Train to the end, write everything, evaluate."""
        trainer, config = self.trainer, self.config
        count = len(self.members)
        total = count * config.num_updates * config.num_envs * config.rollout_steps
        columns = COLUMNS + EVALUATION_COLUMNS
        evaluations: list[EvaluationResult] = []
        saved = -1
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(stop_signals())
            display = stack.enter_context(
                ProgressDisplay(self.console, total, count * trainer.step_count)
            )
            writers = [
                MetricsWriter(directory.path, columns, last_step=trainer.step_count)
                for directory in self.directories
            ]
            for writer in writers:
                stack.callback(writer.close)
            while trainer.update_count < config.num_updates and not stop.is_set():
                target = self._next_stop(trainer.update_count)
                last = target == config.num_updates
                due = bool(config.eval_interval) and target % config.eval_interval == 0
                chunk = trainer.advance(
                    target - trainer.update_count,
                    evaluate=due or (last and bool(config.eval_episodes)),
                )
                evaluations = chunk.evaluations
                self._write(writers, chunk.progress, evaluations if due else [])
                display.show(_average([rows[-1] for rows in chunk.progress]))
                if last or stop.is_set() or target % config.checkpoint_interval == 0:
                    self._save()
                    saved = target
        if saved != trainer.update_count:
            self._save()
        if trainer.update_count < config.num_updates:
            evaluations = []
        elif config.eval_episodes and not evaluations:
            # Nothing was left to train.
            evaluations = trainer.advance(0, evaluate=True).evaluations
        return self._finish(evaluations if config.eval_episodes else [])

    def _next_stop(self, update: int) -> int:
        """The next update after which something is due on the host."""
        stops = [(update // n + 1) * n for n in self._intervals()]
        stops.append(update + self.trainer.longest_chunk)
        return min([*stops, self.config.num_updates])

    def _write(
        self,
        writers: Sequence[MetricsWriter],
        progress: Sequence[Sequence[Progress]],
        evaluations: Sequence[EvaluationResult],
    ) -> None:
        for index, (writer, rows) in enumerate(zip(writers, progress, strict=True)):
            for row in rows:
                metrics = {"update": row.update, **row.metrics}
                if evaluations and row is rows[-1]:
                    result = evaluations[index]
                    scores = (result.mean, result.std)
                    metrics |= dict(zip(EVALUATION_COLUMNS, scores, strict=True))
                writer.write(row.step, metrics)

    def _save(self) -> None:
        head = self.trainer.environment.spec.head
        step = self.trainer.step_count
        for index, member in enumerate(self.members):
            state = self.trainer.get_state(index)
            self.directories[index].save_state(member.config, head, step, state)

    def _finish(self, evaluations: list[EvaluationResult]) -> list[EvaluationResult]:
        """Figures, tables and what to do next."""
        name = self.config.env_id
        for directory, member in zip(self.directories, self.members, strict=True):
            directory.draw_learning_curve(f"{name}, jax, compiled, {member.name}")
        for directory, result in zip(self.directories, evaluations, strict=False):
            text = evaluation_json(result) + "\n"
            (directory.path / "evaluation.json").write_text(text)
        if self.many:
            self._summarise(evaluations)
        for member, result in zip(self.members, evaluations, strict=False):
            label = f"{member.name}: " if self.many else ""
            self.console.print(f"{label}{describe(result)}", highlight=False)
        done = self.trainer.update_count >= self.config.num_updates
        self.console.print(
            f"{'saved' if done else 'stopped and saved'} in {self.path}, a run "
            f"directory{' for each member' if self.many else ''}\n"
            f"  evaluate:   trpo evaluate {self.directories[0].path}\n"
            f"  train on:   trpo train --resume {self.path} --total-steps "
            f"{(2 if done else 1) * self.config.total_steps}",
            highlight=False,
            soft_wrap=True,
        )
        return evaluations

    def _summarise(self, evaluations: Sequence[EvaluationResult]) -> None:
        """`members.csv` and one figure of all members."""
        rows = [
            {"member": member.name, "seed": member.config.seed, **member.values}
            | ({"steps": self.trainer.step_count})
            for member in self.members
        ]
        for row, result in zip(rows, evaluations, strict=False):
            row |= {"return_mean": result.mean, "return_std": result.std}
            row |= {"episodes": len(result.returns)}
        with (self.path / TABLE).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        curves = {
            member.name: read_metrics(directory.path / "metrics.csv")
            for directory, member in zip(self.directories, self.members, strict=True)
        }
        plot_learning_curves(
            curves, self.path / "learning_curves.png", self.config.env_id
        )


def _at(checkpoint: Checkpoint, step: int) -> Checkpoint:
    """This checkpoint, or its neighbour of an earlier step."""
    if checkpoint.step == step:
        return checkpoint
    return load_checkpoint(checkpoint.path.with_name(f"checkpoint-{step:012d}"))


def _average(members: Sequence[Progress]) -> Progress:
    """What the progress line shows of many members: means, and the worst status."""
    first = members[0]
    names = ("rollout/episode_return_mean", "policy/kl")
    metrics = {
        name: statistics.fmean(m.metrics[name] for m in members)
        for name in names
        if all(name in m.metrics for m in members)
    }
    metrics["policy/status"] = max(m.metrics["policy/status"] for m in members)
    return Progress(first.update, first.step * len(members), metrics)
