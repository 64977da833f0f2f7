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

from rich.console import Console

from trpo.common.files import FileError
from trpo.common.terminal import Terminal
from trpo.common.user_modules import python_command
from trpo.common.validation import assignments, require_count
from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.run_pool import run_all
from trpo.run_process import Launch, Stop, execute
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import logged_steps
from trpo.sweeps.ray import ray_launch
from trpo.sweeps.report import SweepRow, write_report


FIELDS = {
    field.name
    for kind in (TRPOConfig, TrainConfig)
    for field in dataclasses.fields(kind)
} - {"env_id", "modules", "seed", "agent", "callbacks", "backend"}


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """One run of a sweep; see `trpo.run_pool.Spec`.

    Attributes:
        name: of its directory.
        config: of the run.
        values: what was swept -> this run's value.
        launch: starts its process.
    """

    name: str
    config: TrainConfig
    values: dict[str, Any]
    launch: Launch = dataclasses.field(default=execute, repr=False, compare=False)

    @property
    def env_id(self) -> str:
        """Gymnasium id."""
        return self.config.env_id

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config.seed

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
        exists = os.path.lexists(path / "config.json")
        if exists and self._config_in(path) != self.config:
            raise ValueError(
                f"`run_dir`: expected {path} to be of this sweep, got a run of another "
                "configuration. Give another --run-dir."
            )

    def _config_in(self, path: Path) -> TrainConfig:
        """Configuration of the run there, with the paths of the user's code of now."""
        config = RunDirectory(path).shown_config()
        return dataclasses.replace(config, modules=self.config.modules)

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
            "trpo.sweep_worker",
            *(str((root / self.name).absolute()), json.dumps(self.config.to_dict())),
        )
        self.launch(command, root / f"{self.name}.log", stop)
        return self.is_done(root)

    def result(self, root: Path) -> SweepRow:
        """The row of a run that is done."""
        path = root / self.name
        evaluation = RunDirectory(path).read_evaluation()
        assert evaluation is not None, path
        setting = ", ".join(f"{k}={_short(v)}" for k, v in self.values.items())
        return SweepRow(
            env_id=self.env_id,
            setting=setting or "preset",
            seed=self.seed,
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
        name: tuple(map(_value, texts))
        for name, texts in assignments("values", arguments, sorted(FIELDS)).items()
    }


def _value(text: str) -> Any:
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
    runs = []
    for env_id in env_ids:
        for combination in itertools.product(*values.values()):
            chosen = dict(zip(values, combination, strict=True))
            for seed in range(seeds):
                config = preset_config(env_id, seed=seed, **overrides | chosen)
                settings = [f"{name}={_short(v)}" for name, v in chosen.items()]
                name = ",".join([env_id.replace("/", "-"), *settings, f"seed={seed}"])
                runs.append(SweepRun(name, config, chosen))
    if len({run.name for run in runs}) < len(runs):
        raise ValueError(
            "`values`: expected runs of different names, got two alike: an environment "
            "or a value twice, or values that differ beyond their sixth digit."
        )
    return runs


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def run_sweep(
    runs: Sequence[SweepRun],
    root: Path,
    workers: int | None = None,
    console: Console | None = None,
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
        console: Where to print.
        ray_address: Of the Ray cluster that makes the runs; None for this machine.
            See `trpo.sweeps.ray.ray_launch`.

    Returns:
        As `trpo.run_pool.run_all`.

    Raises:
        ValueError: `workers` is no count, a directory there is of another
            configuration or in use, or there is no cluster.
    """
    if workers is not None:
        require_count("workers", workers)
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)

    def line(run: SweepRun) -> str:
        row = run.result(root)
        return f"{run.name}: return {row.mean:.2f} ± {row.std:.2f}"

    if ray_address is None:
        status = run_all(runs, root, workers or os.cpu_count() or 1, console, line)
    else:
        with ray_launch(ray_address, root) as (launch, cores):
            launched = [dataclasses.replace(run, launch=launch) for run in runs]
            status = run_all(launched, root, workers or cores, console, line)
    rows = [run.result(root) for run in runs if run.is_done(root)]
    Terminal(console).say(*write_report(rows, root).splitlines())
    return status
