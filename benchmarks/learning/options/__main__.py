"""What each option of the algorithm does to return, Fisher products and time.

    python -m benchmarks.learning.options
    python -m benchmarks.learning.options --envs Pendulum-v1 --only fisher

Each option is trained with a few seeds beside the unchanged preset; finished runs are
skipped. Then updates are timed in turns, all options on one batch of the environment.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console

from benchmarks import pages
from benchmarks.command import Output, run_command
from benchmarks.csv_files import write_csv
from benchmarks.learning.options.rows import OPTIONS, PRESET
from benchmarks.learning.options.table import Times, page, times_of
from benchmarks.learning.training.runs import RunSpec
from benchmarks.speed.timing import time_in_turns
from trpo.data.report import StepStatus
from trpo.runs.metrics import read_metrics
from trpo.sweeps.pool import run_all
from trpo.training.trainer import Trainer


RESULTS = "options"
BUDGETS = {"HalfCheetah-v5": 100_000, "Pendulum-v1": 100_000}
TIMING_SECONDS = 20.0


@dataclasses.dataclass
class Arguments(Output):
    """Train every option beside the preset, time their updates, write the tables."""

    envs: tuple[str, ...] = tuple(BUDGETS)
    """Gymnasium environment ids."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each option."""
    backend: Literal["jax", "torch"] = "jax"
    """Framework."""
    only: str = ""
    """Options whose name has this in it; the preset is always run."""
    total_steps: int | None = None
    """Environment steps of each run; by default the environment's own."""
    workers: int = 2
    """Runs at a time, each in a process of one thread."""
    report_only: bool = False
    """Train nothing: tables of what is done."""
    seconds: float = TIMING_SECONDS
    """For timing updates, per environment."""
    runs: Path = Path("runs/options")
    """Where the run directories are kept."""


class Outcome(NamedTuple):
    """One run.

    Attributes:
        option: its name in `OPTIONS`.
        seed: of the run.
        steps: environment steps done.
        mean: return of the final policy, deterministic, 20 episodes.
        products: Fisher products per update, mean over updates.
        accepted: share of updates that moved the policy.
        kl: mean KL of the updates that did, nats.
        explained_variance: of the critic, mean over the run's last tenth.
    """

    option: str
    seed: int
    steps: int
    mean: float
    products: float
    accepted: float
    kl: float
    explained_variance: float


def main(arguments: Arguments) -> int:
    """Run what is missing, then write tables and CSV; exit status."""
    console, status = Console(), 0
    for env_id in arguments.envs:
        specs = planned(env_id, arguments)
        if not arguments.report_only:
            status |= run_all(
                [spec for runs in specs.values() for spec in runs],
                arguments.runs,
                arguments.workers,
                console,
                on_done=lambda spec: f"{spec.label}, seed {spec.seed}: done",
            )
        specs = {
            name: runs
            for name, runs in specs.items()
            if all(spec.is_done(arguments.runs) for spec in runs)
        }
        outcomes = [
            outcome(name, spec, arguments.runs)
            for name, runs in specs.items()
            for spec in runs
        ]
        if PRESET not in specs:
            continue  # There is nothing to compare with.
        seconds = time_updates(list(specs.values()), arguments.seconds)
        times = dict(zip(specs, seconds, strict=True))
        folder, name = arguments.folder(RESULTS), f"{env_id}-{arguments.backend}"
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(folder / f"{name}.csv", outcomes)
        write_rows(folder / f"{name}-times.csv", times_of(env_id, times))
        (folder / f"{name}.md").write_text(page(folder / name))
        console.print(f"wrote {folder / name}.md", highlight=False, soft_wrap=True)
        if arguments.publish:
            pages.write()
    return status


def planned(env_id: str, arguments: Arguments) -> dict[str, list[RunSpec]]:
    """Runs of the preset and of each option, by the option's name."""
    steps = arguments.total_steps or BUDGETS.get(env_id)
    common = () if steps is None else (("total_steps", steps),)
    return {
        name: [
            RunSpec(env_id, arguments.backend, seed, common + changes, label=name)
            for seed in arguments.seeds
        ]
        for name, changes in OPTIONS.items()
        if not changes or arguments.only in name
    }


def outcome(name: str, spec: RunSpec, root: Path) -> Outcome:
    """What a run that is done came to."""
    updates = read_metrics(spec.directory(root) / "metrics.csv")
    moved = [u for u in updates if u["policy/status"] == StepStatus.ACCEPTED]
    last = updates[-max(1, len(updates) // 10) :]
    final = spec.collect(root)[-1]
    return Outcome(
        name,
        spec.seed,
        final.step,
        final.scores[0],
        float(np.mean([u["cg/iterations"] for u in updates])),
        len(moved) / len(updates),
        float(np.mean([u["policy/kl"] for u in moved])) if moved else 0.0,
        float(np.mean([u["value/explained_variance"] for u in last])),
    )


class _Subject:
    """An agent's update on a batch, each time from the same state.

    Args:
        spec: The run's.
        trainer: Of the preset, whose environments made the batch.
        rollout: What they made.
    """

    def __init__(self, spec: RunSpec, trainer: Trainer, rollout: object) -> None:
        self.trainer = Trainer(spec.config)
        own, given = self.trainer.agent.get_state(), trainer.agent.get_state()
        # An option may have state of its own, or lack some.
        self.trainer.agent.set_state(
            {name: given.get(name, array) for name, array in own.items()}
        )
        self.batch = self.trainer.prepare_batch(rollout).batch  # pyright: ignore
        self.state = self.trainer.agent.get_state()

    def reset(self) -> None:
        """Undo the last update."""
        self.trainer.agent.set_state(self.state)

    def update(self) -> None:
        """One update; its numbers are on the host when it returns."""
        self.trainer.agent.update(self.batch)


def time_updates(specs: list[list[RunSpec]], seconds: float) -> list[np.ndarray]:
    """Seconds of each update of each option, in turns, on one batch.

    Args:
        specs: The preset's runs, then each option's.
        seconds: Time to spend.
    """
    trainer = Trainer(specs[0][0].config)
    rollout = trainer.collector.collect(trainer.agent, trainer.config.rollout_steps)
    subjects = [_Subject(runs[0], trainer, rollout) for runs in specs]
    samples = time_in_turns(subjects, seconds, least=10)
    for each in (trainer, *(subject.trainer for subject in subjects)):
        each.close()
    return [np.array(times) for times in samples]


def write_rows(path: Path, rows: Sequence[Outcome] | Sequence[Times]) -> None:
    """A CSV whose columns are the rows' fields."""
    cells = ([f"{x:.5g}" if isinstance(x, float) else x for x in row] for row in rows)
    write_csv(path, rows[0]._fields, cells)


if __name__ == "__main__":
    run_command(main, Arguments)
