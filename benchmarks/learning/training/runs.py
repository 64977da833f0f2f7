"""One run of the study: its configuration, its directory, its process, its results."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.learning.training.rows import Row
from trpo.common.signals import Stop
from trpo.config.choices import INTERIM_EPISODES
from trpo.config.presets import command_arguments, preset_config
from trpo.config.run import TrainConfig
from trpo.data.report import StepStatus
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import logged_steps, read_metrics
from trpo.sweeps.pool import execute


# Evaluations of a run, the last one included.
EVALUATIONS = 20
FINAL_EPISODES = 20
STOCHASTIC = "evaluation_stochastic.json"


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """A run to be made: what differs from its environment's preset.

    Raises:
        ValueError: an override is unknown or out of range.
    """

    env_id: str
    backend: str
    seed: int
    overrides: tuple[tuple[str, Any], ...] = ()
    label: str = ""
    kept: int = 1
    """Checkpoints that are left at the end."""

    def __post_init__(self) -> None:
        _ = self.config

    @property
    def config(self) -> TrainConfig:
        """The preset's, with the overrides, and evaluations along the way."""
        values = {"backend": self.backend, "seed": self.seed, **dict(self.overrides)}
        updates = preset_config(self.env_id, **values).num_updates
        # Evaluations draw no random number of the run's: they change nothing in it.
        interval = max(1, updates // EVALUATIONS)
        return preset_config(
            self.env_id,
            eval_interval=interval,
            checkpoint_interval=interval,
            keep_checkpoints=self.kept,
            **values,
        )

    def directory(self, root: Path) -> Path:
        """Where the run lives."""
        parts = [self.env_id.replace("/", "-"), self.backend]
        parts += [self.label] if self.label else []
        return root / "-".join([*parts, str(self.config.total_steps), f"s{self.seed}"])

    @property
    def short_name(self) -> str:
        """What the progress bar calls it."""
        return f"{self.env_id} s{self.seed}"

    @property
    def steps(self) -> int:
        """Environment steps of the whole run, in whole rollouts."""
        return self.config.num_steps

    def is_done(self, root: Path) -> bool:
        """Whether the run has ended and been evaluated both ways."""
        return (self.directory(root) / STOCHASTIC).exists()

    def check(self, root: Path) -> None:
        """Refuse a directory that an older preset made.

        Raises:
            ValueError: it holds a run of another configuration.
        """
        directory = RunDirectory(self.directory(root))
        if not (directory.path / "config.json").exists():
            return
        found, expected = directory.read_config().to_dict(), self.config.to_dict()
        found, expected = (found | found.pop("agent"), expected | expected.pop("agent"))
        different = sorted(k for k in expected if found[k] != expected[k])
        if different:
            name = different[0]
            raise ValueError(
                f"`runs`: expected {directory.path} to be a run with {name} = "
                f"{expected[name]}, got {found[name]}. The preset has changed since: "
                "remove the directory, or give another --runs."
            )

    def run(self, root: Path, stop: Stop) -> bool:
        """Start or continue a run in a process of its own; then evaluate it.

        Args:
            root: Where run directories are.
            stop: Once set, the run is told to save and exit.

        Returns:
            Whether it is done; False if it was stopped.

        Raises:
            RuntimeError: the process failed; names its log.
        """
        directory = self.directory(root)
        started = any((directory / "checkpoints").glob("checkpoint-*"))
        command = [sys.executable, "-m", "trpo", "train"]
        if started:
            command += ["--resume", str(directory), "--trust"]
        else:
            command += [*command_arguments(self.config), "--run-dir", str(directory)]
        # Not by `with_suffix`: a label such as gamma=0.9 has a dot in it.
        log = directory.with_name(f"{directory.name}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        if not (directory / "evaluation.json").exists():
            execute(command, log, stop)
        if stop.is_set() or not (directory / "evaluation.json").exists():
            return False
        sampled = [sys.executable, "-m", "trpo", "evaluate", str(directory)]
        sampled += [
            "--stochastic",
            "--json",
            "--trust",
            "--episodes",
            str(FINAL_EPISODES),
        ]
        output = directory / "stochastic.tmp"
        execute(sampled, output, stop)
        if stop.is_set():
            return False
        output.rename(directory / STOCHASTIC)
        return True

    def steps_done(self, root: Path) -> int:
        """Environment steps that the run has logged so far."""
        return logged_steps(self.directory(root) / "metrics.csv")

    def collect(self, root: Path) -> list[Row]:
        """The evaluations of a run that is done."""
        directory = self.directory(root)
        final = json.loads((directory / "evaluation.json").read_text())
        # Anything that a framework has to say comes before the last line.
        sampled = json.loads((directory / STOCHASTIC).read_text().splitlines()[-1])
        rows, seconds = [], 0.0
        counts = [0] * len(StepStatus)
        updates = read_metrics(directory / "metrics.csv")
        for update in updates:
            counts[int(update["policy/status"])] += 1
            seconds += update["time/acting_and_stepping_seconds"]
            seconds += update["time/learning_seconds"]
            if update is updates[-1]:
                scores = (final["mean"], final["std"], sampled["mean"], sampled["std"])
                episodes = final["episodes"]
            elif "evaluation/return_mean" in update:
                mean, std = (
                    update["evaluation/return_mean"],
                    update["evaluation/return_std"],
                )
                scores, episodes = (mean, std, None, None), INTERIM_EPISODES
            else:
                continue
            rows.append(
                Row(
                    self.seed,
                    int(update["step"]),
                    episodes,
                    scores,
                    update.get("rollout/episode_return_mean"),
                    seconds,
                    tuple(counts),
                )
            )
        return rows
