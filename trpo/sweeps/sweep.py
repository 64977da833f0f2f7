"""Environments times seeds times hyperparameters, a local process for each run.

What one compiled program can't hold together (`trpo.runs.members`): other environments,
other sizes, the PyTorch backend, environments that step on the host.
"""

import dataclasses
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trpo.common.files import FileError
from trpo.common.signals import Stop
from trpo.common.terminal import Terminal
from trpo.common.user_modules import python_command
from trpo.common.validation import assignments, require_count
from trpo.config.presets import preset_config, settings_of
from trpo.config.run import TrainConfig
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import logged_steps
from trpo.sweeps.pool import Launch, execute, run_all
from trpo.sweeps.ray import executor
from trpo.sweeps.report import SweepRow, write_report


# What can be swept.
FIELDS = {*settings_of(TrainConfig(env_id="any"))} - {
    *("env_id", "modules", "seed", "backend")
}


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """One run of a sweep; see `trpo.sweeps.pool.Spec`.

    Attributes:
        name: of its directory.
        config: of the run.
        values: what was swept -> this run's value.
        launch: starts its process.

    Raises:
        ValueError: it would not be evaluated.
    """

    name: str
    config: TrainConfig
    values: dict[str, Any]
    launch: Launch = dataclasses.field(default=execute, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.config.eval_episodes == 0:
            raise ValueError(
                "`eval_episodes`: expected at least 1, as final evaluations are what "
                "runs are compared by, got 0."
            )

    @property
    def short_name(self) -> str:
        """What the progress bar calls it."""
        return f"{self.config.env_id} s{self.config.seed}"

    @property
    def steps(self) -> int:
        """Environment steps of the whole run."""
        return self.config.num_steps

    def check(self, root: Path) -> None:
        """Refuse a directory of another configuration.

        Raises:
            ValueError: see above.
        """
        path = root / self.name
        if not os.path.lexists(path / "config.json"):
            return
        config = RunDirectory(path).shown_config()
        # The user's code may lie elsewhere by now.
        if dataclasses.replace(config, modules=self.config.modules) != self.config:
            raise ValueError(
                f"`run_dir`: expected {path} to be of this sweep, got a run of another "
                "configuration. Give another --run-dir."
            )

    def is_done(self, root: Path) -> bool:
        """Whether it has been trained and evaluated.

        A result that can't be read, half written as the disk was full, is none: the
        run's model is saved, and is evaluated again.
        """
        try:
            return RunDirectory(root / self.name).read_evaluation() is not None
        except FileError:
            return False

    def steps_done(self, root: Path) -> int:
        """Environment steps so far."""
        return logged_steps(root / self.name / "metrics.csv")

    def run(self, root: Path, stop: Stop) -> bool:
        """Make or continue it in a process of its own; whether it is done.

        Raises:
            RuntimeError: the process failed.
        """
        command = python_command(
            "trpo.sweeps.worker",
            *(str((root / self.name).absolute()), json.dumps(self.config.to_dict())),
        )
        self.launch(command, root / f"{self.name}.log", stop)
        return self.is_done(root)

    def result(self, root: Path) -> SweepRow:
        """The row of a run that is done."""
        path = root / self.name
        evaluation = RunDirectory(path).read_evaluation()
        assert evaluation is not None, path
        return SweepRow(
            env_id=self.config.env_id,
            setting=", ".join(assigned(self.values)) or "preset",
            seed=self.config.seed,
            mean=evaluation["mean"],
            std=evaluation["std"],
            path=path,
        )


def parse_values(arguments: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Configuration field -> values, from arguments such as "value_epochs=10,20".

    Raises:
        ValueError: a name is no field that can be swept, or comes twice.
    """
    return {
        name: tuple(map(parse_value, texts))
        for name, texts in assignments("values", arguments, sorted(FIELDS)).items()
    }


def parse_value(text: str) -> Any:
    """A number, True or False, or the text; layer widths as 64x64."""
    parts = text.split("x")
    if len(parts) > 1 and all(part.isdigit() for part in parts):
        return tuple(map(int, parts))
    try:
        return json.loads(text.lower())
    except json.JSONDecodeError:
        return text


def sweep_runs(
    env_ids: Sequence[str],
    seeds: int,
    values: Mapping[str, Sequence[Any]],
    **overrides: Any,
) -> list[SweepRun]:
    """Each environment with each combination of values and each seed.

    Args:
        env_ids: Gymnasium ids; each starts from its own preset.
        seeds: Seeds from 0 up.
        values: Field -> values.
        overrides: Fields that are the same in all runs.

    Raises:
        ValueError: a value is out of range.
    """
    require_count("seeds", seeds)
    runs, grid = [], itertools.product(*values.values())
    for env_id, combination, seed in itertools.product(env_ids, grid, range(seeds)):
        chosen = dict(zip(values, combination, strict=True))
        config = preset_config(env_id, seed=seed, **overrides | chosen)
        parts = [env_id.replace("/", "-"), *assigned(chosen), f"seed={seed}"]
        runs.append(SweepRun(",".join(parts), config, chosen))
    if len({run.name for run in runs}) < len(runs):
        raise ValueError(
            "`values`: expected runs of different names, got two alike: an environment "
            "or a value twice, or values that differ beyond their sixth digit."
        )
    return runs


def assigned(values: Mapping[str, Any]) -> list[str]:
    """NAME=VALUE of each, as it is typed."""
    return [f"{name}={shown_value(value)}" for name, value in values.items()]


def shown_value(value: Any) -> str:
    """A value as it is typed, numbers to six digits; see `parse_values`."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def run_sweep(
    runs: Sequence[SweepRun],
    root: Path,
    workers: int | None = None,
    ray_address: str | None = None,
) -> int:
    """Make or continue all runs, `workers` processes at a time; write the results.

    Ctrl-C lets the runs save and exit; the same call goes on. A run that fails is
    reported and does not keep the others from running.

    Args:
        runs: From `sweep_runs`.
        root: Directory of all run directories, the table and the figure.
        workers: Processes at a time, each with one thread; by default one for each
            core of this machine or of the cluster.
        ray_address: Of the Ray cluster that makes the runs; None for this machine.
            See `trpo.sweeps.ray.executor`.

    Returns:
        As `trpo.sweeps.pool.run_each`.

    Raises:
        ValueError: `workers` is no count, a directory there is of another
            configuration or in use, or there is no cluster.
    """
    root = Path(root)

    def line(run: SweepRun) -> str:
        row = run.result(root)
        spread = f" ± {row.std:.2f}" if run.config.eval_episodes > 1 else ""
        return f"{run.name}: return {row.mean:.2f}{spread}"

    with executor(ray_address, workers) as (launch, workers):
        launched = [dataclasses.replace(run, launch=launch) for run in runs]
        status = run_all(launched, root, workers, None, line)
    rows = [run.result(root) for run in runs if run.is_done(root)]
    Terminal().table(*write_report(rows, root))
    return status
