"""Environments times seeds times hyperparameters, a local process for each run.

What one compiled program can't hold together (`trpo.members`): other environments,
other sizes, the PyTorch backend, environments that step on the host.
"""

import concurrent.futures
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from trpo.commands import stop_signals
from trpo.config import TrainConfig, TRPOConfig
from trpo.presets import preset_config
from trpo.run_directory import RunDirectory
from trpo.sweep_report import SweepRow, write_report
from trpo.validation import require_count


STOPPED, FAILED = 130, 1
FIELDS = {
    field.name
    for kind in (TRPOConfig, TrainConfig)
    for field in dataclasses.fields(kind)
} - {"env_id", "seed", "agent", "backend"}


class SweepRun(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: of its directory.
        config: of the run.
        values: what was swept -> this run's value.
    """

    name: str
    config: TrainConfig
    values: dict[str, Any]


def parse_values(arguments: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Configuration field -> values, from arguments such as "value_epochs=10,20".

    Raises:
        ValueError: a name is no field that can be swept, or comes twice.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for argument in arguments:
        name, equals, values = argument.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals or name not in FIELDS or name in found:
            raise ValueError(
                "`values`: expected NAME=VALUE,VALUE,…, each name once and among "
                f"{', '.join(sorted(FIELDS))}, got {argument!r}."
            )
        found[name] = tuple(_value(value) for value in values.split(","))
    return found


def _value(text: str) -> Any:
    """A number, True or False, or the text; layer widths as 64x64."""
    parts = text.strip().split("x")
    if len(parts) > 1 and all(part.isdigit() for part in parts):
        return tuple(map(int, parts))
    try:
        return json.loads(text.strip().lower())
    except json.JSONDecodeError:
        return text.strip()


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
    return runs


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def run_sweep(
    runs: Sequence[SweepRun], root: Path, workers: int, console: Console | None = None
) -> int:
    """Make or continue all runs, `workers` processes at a time; write the results.

    Ctrl-C lets the runs save and exit; the same call goes on. A run that fails is
    reported and does not keep the others from running.

    Args:
        runs: From `sweep_runs`.
        root: Directory of all run directories, the table and the figure.
        workers: Processes at a time, each with one thread.
        console: Where to print.

    Returns:
        0, FAILED if a run failed, STOPPED if a signal came.

    Raises:
        ValueError: `workers` is no count, or a directory there is of another
            configuration.
    """
    require_count("workers", workers)
    console, root = console or Console(), Path(root)
    root.mkdir(parents=True, exist_ok=True)
    for run in runs:
        _require_same(run, root)
    console.print(f"{sum(_is_done(r, root) for r in runs)} of {len(runs)} are done")
    one_at_a_time = threading.Lock()
    with (
        stop_signals() as stop,
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):

        def work(run: SweepRun) -> bool:
            """Whether it did not fail."""
            if stop.is_set() or _is_done(run, root):
                return True
            trouble = _execute(run, root, stop)
            with one_at_a_time:
                style = "red" if trouble else None
                line = trouble or f"{run.name}: {_score(run, root)}"
                console.print(line, style=style, markup=False, highlight=False)
            return not trouble

        succeeded = all(list(pool.map(work, runs)))
    rows = [row for run in runs if (row := _row(run, root)) is not None]
    console.print(write_report(rows, root), markup=False, highlight=False)
    if stop.is_set():
        console.print("stopped; everything is saved: the same command goes on")
        return STOPPED
    return 0 if succeeded else FAILED


def _require_same(run: SweepRun, root: Path) -> None:
    path = root / run.name
    there = (path / "config.json").exists()
    if there and RunDirectory(path).read_config() != run.config:
        raise ValueError(
            f"`run_dir`: expected {path} to be of this sweep, got a run of another "
            "configuration. Give another --run-dir."
        )


def _is_done(run: SweepRun, root: Path) -> bool:
    return (root / run.name / "evaluation.json").exists()


def _execute(run: SweepRun, root: Path, stop: threading.Event) -> str:
    """Run it in a process of its own, to its end or until `stop`; what went wrong."""
    command = [
        *(sys.executable, "-m", "trpo.sweep_worker"),
        *(str(root / run.name), json.dumps(run.config.to_dict())),
    ]
    # One thread each: there are as many processes as there should be threads.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }
    log = root / f"{run.name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        told = False
        while True:
            try:
                status = process.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if stop.is_set() and not told:
                    process.terminate()
                    told = True
    if status == 0 or stop.is_set():
        return ""
    last = log.read_text().strip().splitlines()[-3:]
    return "\n".join([f"{run.name}: exit status {status}, see {log}", *last])


def _score(run: SweepRun, root: Path) -> str:
    row = _row(run, root)
    return "stopped" if row is None else f"return {row.mean:.2f} ± {row.std:.2f}"


def _row(run: SweepRun, root: Path) -> SweepRow | None:
    """The result of a run that is done."""
    if not _is_done(run, root):
        return None
    path = root / run.name
    found = json.loads((path / "evaluation.json").read_text())
    return SweepRow(
        env_id=run.config.env_id,
        setting=", ".join(f"{k}={_short(v)}" for k, v in run.values.items())
        or "preset",
        seed=run.config.seed,
        mean=found["mean"],
        std=found["std"],
        path=path,
    )
