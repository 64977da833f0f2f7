"""Train presets over environments, backends and seeds; commit curves and a table.

    python -m benchmarks.training_study --envs Pendulum-v1 --seeds 0 1 2

Each run is a `trpo train` of its own under --runs, so that an interrupted study goes on
where it stopped: finished runs are skipped, open ones resumed. Results are rewritten
from all finished runs: one CSV per environment and backend, a table, a figure.
"""

import collections
import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.console import Console

from trpo.metrics import read_metrics
from trpo.presets import preset_config
from trpo.types import StepStatus


# Published mean return of a TRPO at the same number of steps.
# Pendulum-v1: RL Baselines3 Zoo's benchmark table, one agent.
PUBLISHED = {("Pendulum-v1", 100_000): -174.6}
CURVE_COLUMNS = ("seed", "step", "return", "kl", "status")
RESULTS = Path(__file__).parent / "results" / "training"


@dataclasses.dataclass
class Arguments:
    """Train presets over environments, backends and seeds."""

    envs: tuple[str, ...] = ("Pendulum-v1",)
    """Gymnasium environment ids."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; each is one run."""
    backends: tuple[Literal["jax", "torch"], ...] = ("jax", "torch")
    """Frameworks."""
    total_steps: int | None = None
    """Environment steps of each run; by default the preset's."""
    runs: Path = Path("runs/study")
    """Where the run directories are kept."""
    results: Path = RESULTS
    """Where CSV files, table and figure are written."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run."""

    env_id: str
    backend: str
    seed: int
    total_steps: int
    curve: list[dict]
    evaluation: dict

    @property
    def seconds(self) -> float:
        """Seconds spent collecting and learning."""
        keys = ("time/acting_and_stepping_seconds", "time/learning_seconds")
        return sum(row[key] for row in self.curve for key in keys)


def run_directory(runs: Path, env_id: str, backend: str, seed: int, steps: int) -> Path:
    """Where a run of the study lives."""
    return runs / f"{env_id.replace('/', '-')}-{backend}-{steps}-seed{seed}"


def train(directory: Path, env_id: str, backend: str, seed: int, steps: int) -> None:
    """Start, resume or skip one run."""
    if (directory / "evaluation.json").exists():
        return
    command = [sys.executable, "-m", "trpo", "train"]
    if (directory / "checkpoints").exists() and any(
        (directory / "checkpoints").glob("checkpoint-*")
    ):
        command += ["--resume", str(directory)]
    else:
        command += [env_id, "--backend", backend, "--seed", str(seed)]
        command += ["--total-steps", str(steps), "--run-dir", str(directory)]
    # One thread: the networks are small, and threads that wait for each other on a
    # busy machine make PyTorch tens of times slower.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    subprocess.run(command, check=True, env=environment)


def load(directory: Path, env_id: str, backend: str, seed: int, steps: int) -> Run:
    """A finished run's curve and final evaluation."""
    evaluation = json.loads((directory / "evaluation.json").read_text())
    curve = read_metrics(directory / "metrics.csv")
    return Run(env_id, backend, seed, steps, curve, evaluation)


def write_curves(runs: list[Run], results: Path) -> None:
    """One CSV per environment and backend, a row per update."""
    groups = collections.defaultdict(list)
    for run in runs:
        groups[run.env_id, run.backend].append(run)
    for (env_id, backend), members in groups.items():
        path = results / f"{env_id.replace('/', '-')}-{backend}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(CURVE_COLUMNS)
            for run in members:
                for row in run.curve:
                    recent = row.get("rollout/episode_return_mean")
                    writer.writerow(
                        [
                            run.seed,
                            int(row["step"]),
                            "" if recent is None else f"{recent:.2f}",
                            f"{row['policy/kl']:.6f}",
                            int(row["policy/status"]),
                        ]
                    )


def table(runs: list[Run]) -> str:
    """Markdown: a row per environment and backend."""
    lines = [
        "| environment | backend | steps | seeds | return, mean ± std over seeds "
        "| each seed | published TRPO | updates: accepted / exhausted / other "
        "| steps/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups = collections.defaultdict(list)
    for run in runs:
        groups[run.env_id, run.backend, run.total_steps].append(run)
    for (env_id, backend, steps), members in groups.items():
        scores = np.array([run.evaluation["mean"] for run in members])
        counts = collections.Counter(
            int(row["policy/status"]) for run in members for row in run.curve
        )
        accepted = counts.pop(StepStatus.ACCEPTED, 0)
        exhausted = counts.pop(StepStatus.LINE_SEARCH_EXHAUSTED, 0)
        speed = sum(run.curve[-1]["step"] for run in members) / sum(
            run.seconds for run in members
        )
        published = PUBLISHED.get((env_id, steps))
        lines.append(
            f"| {env_id} | {backend} | {steps:,} | "
            f"{', '.join(str(run.seed) for run in members)} | "
            f"{scores.mean():.1f} ± {scores.std():.1f} | "
            f"{', '.join(f'{score:.1f}' for score in scores)} | "
            f"{'' if published is None else published} | "
            f"{accepted} / {exhausted} / {sum(counts.values())} | {speed:,.0f} |"
        )
    return "\n".join(lines)


PROTOCOL = """\
# Training results

Final policy (not the best over training), deterministic, 20 episodes per seed, raw
returns, normalisation frozen. The preset of each environment, the same in both
backends. Speeds are of a shared 2-core CPU and depend on what else it did.

Reproduce: `python -m benchmarks.training_study --envs {envs}`
(with `--seeds` and `--total-steps` as in the row).

"""


def draw(runs: list[Run], path: Path) -> None:
    """Learning curves: mean over seeds, band from the least to the best seed."""
    from matplotlib.figure import Figure

    env_ids = list(dict.fromkeys(run.env_id for run in runs))
    figure = Figure(figsize=(5.5 * len(env_ids), 3.6), layout="constrained")
    axes_row = figure.subplots(1, len(env_ids), squeeze=False)[0]
    for axes, env_id in zip(axes_row, env_ids, strict=True):
        for backend, color in (("jax", "tab:blue"), ("torch", "tab:orange")):
            members = [r for r in runs if (r.env_id, r.backend) == (env_id, backend)]
            curves = [
                {
                    row["step"]: row["rollout/episode_return_mean"]
                    for row in run.curve
                    if "rollout/episode_return_mean" in row
                }
                for run in members
            ]
            if not curves:
                continue
            steps = sorted(set.intersection(*map(set, curves)))
            values = np.array([[curve[step] for step in steps] for curve in curves])
            label = f"{backend}, {len(members)} seed{'s' * (len(members) > 1)}"
            axes.plot(steps, values.mean(0), color=color, label=label)
            axes.fill_between(
                steps, values.min(0), values.max(0), color=color, alpha=0.2, lw=0
            )
        published = [v for (name, _), v in PUBLISHED.items() if name == env_id]
        for value in published:
            axes.axhline(value, color="grey", ls=":", label="published TRPO, final")
        axes.set(title=env_id, xlabel="environment steps", ylabel="episode return")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def main(arguments: Arguments) -> None:
    """Run what is missing, then rewrite results from all finished runs."""
    console = Console()
    runs = []
    for env_id in arguments.envs:
        steps = arguments.total_steps or preset_config(env_id).total_steps
        for backend in arguments.backends:
            for seed in arguments.seeds:
                key = (env_id, backend, seed, steps)
                directory = run_directory(arguments.runs, *key)
                console.rule(f"{env_id}, {backend}, seed {seed}, {steps:,} steps")
                train(directory, *key)
                runs.append(load(directory, *key))
    arguments.results.mkdir(parents=True, exist_ok=True)
    write_curves(runs, arguments.results)
    text = PROTOCOL.format(envs=" ".join(arguments.envs)) + table(runs) + "\n"
    name = "-".join(env_id.replace("/", "-") for env_id in arguments.envs)
    (arguments.results / f"{name}.md").write_text(text)
    draw(runs, arguments.results / f"{name}.png")
    console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
