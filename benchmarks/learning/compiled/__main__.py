"""Compiled training: does it learn on every seed, and how fast is it.

python -m benchmarks.learning.compiled                    # learning, tables, figure
python -m benchmarks.learning.compiled --speed [--peers]  # steps per second, tables
"""

import csv
import dataclasses
import shutil
from pathlib import Path

from benchmarks import pages
from benchmarks.command import run_command
from benchmarks.learning.compiled import report as compiled_report
from benchmarks.learning.compiled.report import RESULTS, TASKS, Task
from benchmarks.speed.cell import SUBJECTS, Cell
from benchmarks.speed.runner import run
from benchmarks.speed.update import Timed
from trpo.config.presets import preset_config
from trpo.runs.compiled import is_compiled_run, train_compiled_run
from trpo.runs.members import TABLE
from trpo.runs.metrics import read_metrics
from trpo.runs.train import resumed_config


CURVES = ("member", "step", "episode_return")


@dataclasses.dataclass
class Arguments(Timed):
    """Train 16 seeds of each environment at once; or, with --speed, time the loop."""

    speed: bool = False
    """Time instead of train; `--peers` times sb3-contrib beside it."""
    rounds: int = 5
    """Processes of each cell; each gives one sample."""
    num_envs: int = 8
    """Environments stepped together when timed."""
    subjects: tuple[str, ...] = ()
    """Of what is timed, only these, such as `compiled compiled-16`."""
    num_seeds: int = 16
    """Members that learn at once."""
    first_seed: int = 0
    """Seed of the first."""
    tasks: tuple[str, ...] = tuple(task.stem for task in TASKS)
    """What to learn."""
    runs: Path = Path("runs/compiled")
    """Where run directories are; one that is there goes on where it stopped."""


def speed_cells(arguments: Arguments) -> list[Cell]:
    """The compiled loop with one seed and with 16, the host's loop, the peer."""
    size = {"num_envs": arguments.num_envs, "mode": "natural"}
    size["device"] = arguments.device
    compiled = {"kind": "compiled", "env_id": "phys2d/Pendulum-v0", **size}
    training = {"kind": "training", "env_id": "Pendulum-v1", **size}
    cells = [Cell(subject=name, **compiled) for name in ("compiled", "compiled-16")]
    subjects = ("jax", *(("sb3-contrib",) if arguments.peers else ()))
    cells += [Cell(subject=name, **training) for name in subjects]
    return [c for c in cells if c.subject in (arguments.subjects or SUBJECTS)]


def learn(task: Task, arguments: Arguments) -> None:
    """Train the seeds of one environment; write their scores and curves."""
    name = task.stem
    run_dir = arguments.runs / name
    if is_compiled_run(run_dir):
        train_compiled_run(resumed_config(run_dir), run_dir, resume=True)
    else:
        given = {"seed": arguments.first_seed, "device": arguments.device}
        config = preset_config(task.env_id, **given, **task.settings)
        train_compiled_run(config, run_dir, num_seeds=arguments.num_seeds)
    out = arguments.folder(RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(run_dir / TABLE, out / f"{name}.csv")
    with (out / f"{name}-curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CURVES)
        for member in sorted(path.parent for path in run_dir.glob("*/metrics.csv")):
            for row in read_metrics(member / "metrics.csv"):
                if "rollout/episode_return_mean" in row:
                    value = f"{row['rollout/episode_return_mean']:.2f}"
                    writer.writerow((member.name, int(row["step"]), value))


def main(arguments: Arguments) -> None:
    """Train or time, then write tables and figure."""
    if arguments.speed:
        store = arguments.open("speed", RESULTS)
        run(speed_cells(arguments), arguments.rounds, store, arguments.settings)
    else:
        for task in TASKS:
            if task.stem in arguments.tasks:
                learn(task, arguments)
    folder = arguments.folder(RESULTS)
    print(compiled_report.write(folder, arguments.device, TASKS))
    if arguments.publish:
        pages.write()


if __name__ == "__main__":
    run_command(main, Arguments)
