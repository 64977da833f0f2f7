"""CPO holds a limit on costs that TRPO breaks: both trained, compared, drawn.

    python -m benchmarks.learning.cost_limit

Runs one after the other in this process; those whose rows are there are skipped. TRPO
is the same program with a limit that no cost reaches, which the tests show to be TRPO
bit for bit, so that its costs are measured too.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from benchmarks import pages
from benchmarks.command import Output, run_command
from benchmarks.csv_files import read_as, write_csv
from benchmarks.learning.training.figures import thousands
from examples.cost_environments import ENV_ID
from trpo.config.presets import preset_config
from trpo.rollout.evaluation import evaluate
from trpo.runs.learning_curves import OTHER_COLOURS, line_style
from trpo.training.progress import Progress
from trpo.training.trainer import Trainer


RESULTS = "constrained"
UNREACHED = 1e9
# Name -> what differs from the preset with the limit.
ALGORITHMS: dict[str, dict[str, Any]] = {
    "CPO": {},
    "CPO to an upper bound": {"cost_standard_errors": 2.0},
    "TRPO": {"cost_limit": UNREACHED},
}
# Whole episodes, so that each batch has costs.
BATCH = {"num_envs": 16, "rollout_steps": 100}
COLOURS = dict(zip(ALGORITHMS, OTHER_COLOURS, strict=False))
LINES = {"torch": "-", "jax": "--"}
EPISODES = 100


@dataclasses.dataclass
class Arguments(Output):
    """Train CPO and TRPO where reward and cost conflict; write rows, table, figure."""

    env: str = ENV_ID
    """Gymnasium environment id, with costs."""
    cost_limit: float = 20.0
    """CPO's limit on the mean cost of an episode; TRPO has none that costs reach."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each algorithm and backend."""
    backends: tuple[str, ...] = ("torch", "jax")
    """Frameworks."""
    total_steps: int = 150_000
    """Environment steps of each run."""


class Row(NamedTuple):
    """A run after one of its updates, or its final policy; the CSV's columns.

    Attributes:
        algorithm, backend, seed: which run.
        step: environment steps done.
        return_mean, cost_mean: of the last 100 training episodes; of the final policy,
            of 100 episodes of its own, with sampled actions.
        limit: CPO's.
    """

    algorithm: str
    backend: str
    seed: int
    step: int
    return_mean: float
    cost_mean: float
    limit: float

    @property
    def run(self) -> tuple[str, str, int]:
        """Which run."""
        return self.algorithm, self.backend, self.seed


def train(arguments: Arguments, run: tuple[str, str, int]) -> tuple[list[Row], Row]:
    """One run's rows, and its final policy's."""
    algorithm, backend, seed = run
    limit = arguments.cost_limit
    settings: dict[str, Any] = BATCH | ALGORITHMS[algorithm]
    settings |= {"cost_limit": limit, "backend": backend}
    config = preset_config(
        arguments.env,
        seed=seed,
        total_steps=arguments.total_steps,
        **settings,
    )
    rows: list[Row] = []

    def note(progress: Progress) -> None:
        names = ("rollout/episode_return_mean", "rollout/episode_cost_mean")
        if names[1] in progress.metrics:
            found, cost = (round(progress.metrics[name], 3) for name in names)
            rows.append(Row(*run, progress.step, found, cost, limit))

    trainer = Trainer(config)
    try:
        trainer.run(note)
        found = evaluate(
            trainer.agent, arguments.env, episodes=EPISODES, seed=seed,
            deterministic=False,
        )  # fmt: skip
    finally:
        trainer.close()
    assert found.costs is not None
    cost = round(float(found.costs.mean()), 3)
    steps = trainer.step_count
    return rows, Row(*run, steps, round(found.mean, 3), cost, limit)


def table(rows: Sequence[Row], finals: Sequence[Row], env: str) -> str:
    """The second half of training, and the final policies, as Markdown."""
    lines = [
        "# A limit on costs",
        "",
        f"{env}, limit {finals[0].limit:g} on the mean cost of an episode. Seed by "
        "seed: mean cost over the second half of training, and the final policy on "
        f"{EPISODES} episodes with sampled actions. Written by `python -m "
        "benchmarks.learning.cost_limit`.",
        "",
        "| algorithm | backend | steps | cost in training | final cost | return |",
        "|---|---|---|---|---|---|",
    ]
    ordered = sorted(finals, key=lambda row: row.run)
    for (algorithm, backend), group in itertools.groupby(
        ordered, key=lambda row: row.run[:2]
    ):
        own = list(group)
        training = ", ".join(f"{late_costs(rows, row):.1f}" for row in own)
        costs = ", ".join(f"{row.cost_mean:.1f}" for row in own)
        returns = ", ".join(f"{row.return_mean:.1f}" for row in own)
        head = f"| {algorithm} | {backend} | {own[0].step:,} |"
        lines.append(f"{head} {training} | {costs} | {returns} |")
    return "\n".join(lines) + "\n"


def late_costs(rows: Sequence[Row], final: Row) -> float:
    """Mean cost over the second half of the training that ended in a policy."""
    own = [r for r in rows if r.run == final.run and r.step > final.step / 2]
    return float(np.mean([row.cost_mean for row in own]))


def page(folder: Path) -> str:
    """The table of a folder's rows, of the default environment."""
    return table(
        read_as(folder / "curves.csv", Row),
        read_as(folder / "policies.csv", Row),
        ENV_ID,
    )


def draw(rows: Sequence[Row], env: str, path: Path) -> None:
    """Mean over seeds and their range: cost, with its limit, and return."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 7.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    kinds = sorted({row.run[:2] for row in rows})
    for axes, name in ((upper, "cost_mean"), (lower, "return_mean")):
        for place, (algorithm, backend) in enumerate(kinds):
            own = [row for row in rows if row.run[:2] == (algorithm, backend)]
            steps, curves = _curves(own, name)
            color = COLOURS[algorithm]
            style = line_style(place, len(kinds), len(steps)) | {"ls": LINES[backend]}
            axes.plot(
                steps, curves.mean(0), color=color, label=f"{algorithm}, {backend}",
                **style,
            )  # fmt: skip
            low, high = curves.min(0), curves.max(0)
            axes.fill_between(steps, low, high, color=color, alpha=0.12, lw=0)
        axes.grid(alpha=0.25)
    upper.axhline(rows[0].limit, color="0.2", ls=":", lw=1.4, label="limit")
    upper.set_ylabel("cost of an episode")
    lower.set_ylabel("return of an episode")
    lower.set_xlabel("environment steps")
    lower.xaxis.set_major_formatter(thousands)
    handles, labels = upper.get_legend_handles_labels()
    figure.legend(
        handles, labels, fontsize="small", loc="outside lower center", ncols=2
    )
    seeds = len({row.seed for row in rows})
    figure.suptitle(
        f"{env}: mean of {seeds} seeds and their range, last 100 training episodes",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)


def _curves(rows: Sequence[Row], name: str) -> tuple[list[int], np.ndarray]:
    """Steps that all seeds have, and the values [seeds, steps] there."""
    by_seed = [
        {row.step: getattr(row, name) for row in rows if row.seed == seed}
        for seed in sorted({row.seed for row in rows})
    ]
    steps = sorted(set.intersection(*map(set, by_seed)))
    return steps, np.array([[curve[step] for step in steps] for curve in by_seed])


def main(arguments: Arguments) -> int:
    """Train what is missing, then write everything; exit status."""
    console, folder = Console(), arguments.folder(RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "curves.csv", folder / "policies.csv"
    rows, finals = (read_as(path, Row) for path in paths)
    done = {row.run for row in finals}
    runs = itertools.product(arguments.seeds, ALGORITHMS, arguments.backends)
    for seed, algorithm, backend in runs:
        run = (algorithm, backend, seed)
        if run in done:
            continue
        more, final = train(arguments, run)
        rows, finals = [*rows, *more], [*finals, final]
        for path, part in zip(paths, (rows, finals), strict=True):
            write_csv(path, Row._fields, part)
        console.print(
            f"{algorithm}, {backend}, seed {seed}: cost {final.cost_mean:.1f}, "
            f"return {final.return_mean:.1f}",
            highlight=False,
        )
    (folder / "cost_limit.md").write_text(table(rows, finals, arguments.env))
    if arguments.publish:
        pages.write()
    draw(rows, arguments.env, folder / "cost_limit.png")
    return 0


if __name__ == "__main__":
    run_command(main, Arguments)
