"""Do the two backends learn equally? Returns over seeds, against a stated margin.

    python -m benchmarks.learning.equivalence --envs LunarLanderContinuous-v3

Lock step proves each update equal. Here nothing is shared: each backend trains with the
seeds by itself, rounding errors grow in chaotic dynamics, and what is compared is what
was learned. Two one-sided t-tests (Schuirmann 1987, "A comparison of the two one-sided
tests procedure and the power approach", J. Pharmacokinet. Biopharm. 15, 657-680): the
means are equal within a margin, at a level of 5 %, if the 90 % interval of their
difference lies within it. The margin is a tenth of what lies between a random policy
and a solved task, and is fixed here, before anything is run.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console

from benchmarks import pages
from benchmarks.command import Output, run_command
from benchmarks.csv_files import read_as, write_csv
from benchmarks.learning.training.runs import FINAL_EPISODES, RunSpec
from trpo.common.signals import Stop
from trpo.runs.metrics import read_metrics
from trpo.sweeps.pool import execute, run_all


RESULTS = "equivalence"
# A tenth of: a random policy's mean return to the return at which a task is solved
# (Gymnasium's threshold; Pendulum-v1 has none: about the best return).
MARGINS = {
    "LunarLanderContinuous-v3": 0.1 * (200.0 - -200.0),
    "CartPole-v1": 0.1 * (475.0 - 22.0),
    "Pendulum-v1": 0.1 * (-150.0 - -1200.0),
}
CHECKPOINTS, LAST_UPDATES = 5, 20
LATE = "late_checkpoints.json"


@dataclasses.dataclass
class Arguments(Output):
    """Train both backends over seeds; are the returns equal within the margin?"""

    envs: tuple[str, ...] = tuple(MARGINS)
    """Gymnasium environment ids that have a margin."""
    seeds: tuple[int, int] = (100, 140)
    """First seed, and the one after the last."""
    dtype: Literal["float32", "float64"] = "float32"
    """Of the agents."""
    total_steps: int | None = None
    """Environment steps of each run; by default the preset's."""
    workers: int = 2
    """Runs at a time, each in a process of one thread."""
    runs: Path = Path("runs/equivalence")
    """Where the run directories are kept; finished runs are not made again."""
    report_only: bool = False
    """Run nothing; write the table from the rows."""
    evaluate: Path | None = None
    """Only evaluate this run's last checkpoints, in this process."""


class Row(NamedTuple):
    """A late checkpoint of a run; the columns of an environment's CSV.

    Attributes:
        backend, dtype, seed: which run.
        step: environment steps at the checkpoint.
        deterministic: mean return of the most likely actions, 20 episodes.
        sampled: of sampled actions, 20 episodes; of the last checkpoint alone.
        training: mean of the training episodes of the last 20 updates; likewise.
    """

    backend: str
    dtype: str
    seed: int
    step: int
    deterministic: float
    sampled: float | None
    training: float | None


class LateSpec(RunSpec):
    """A run of which the last checkpoints are evaluated too."""

    def is_done(self, root: Path) -> bool:
        """Whether it has been trained, and evaluated everywhere."""
        return (self.directory(root) / LATE).exists()

    def run(self, root: Path, stop: Stop) -> bool:
        """Train, then evaluate, in processes of their own; whether it is done."""
        directory = self.directory(root)
        if not super().is_done(root) and not super().run(root, stop):
            return False
        command = [sys.executable, "-m", "benchmarks.learning.equivalence"]
        log = directory.with_name(f"{directory.name}-late.log")
        execute([*command, "--evaluate", str(directory)], log, stop)
        return self.is_done(root)

    def rows(self, root: Path) -> list[Row]:
        """Of a run that is done."""
        directory, dtype = self.directory(root), self.config.agent.dtype
        late = json.loads((directory / LATE).read_text())
        last = self.collect(root)[-1]
        updates = read_metrics(directory / "metrics.csv")[-LAST_UPDATES:]
        training = np.mean([row["rollout/episode_return_mean"] for row in updates])
        return [
            Row(
                self.backend, dtype, self.seed, step, mean,
                *((last.scores[2], float(training)) if step == max(late)[0]
                  else (None, None)),
            )
            for step, mean in late
        ]  # fmt: skip


def evaluate_late(directory: Path) -> None:
    """Evaluate all checkpoints of a run; steps and mean returns go to a file of it."""
    from trpo.rollout.evaluation import evaluate
    from trpo.runs.checkpoint import load_checkpoint
    from trpo.runs.directory import load_agent
    from trpo.training.state import agent_state

    agent, config = load_agent(directory, trust=True)
    found = []
    for path in sorted((directory / "checkpoints").glob("checkpoint-*")):
        checkpoint = load_checkpoint(path)
        agent.set_state(agent_state(checkpoint.arrays))
        result = evaluate(
            agent, config.env_id, episodes=FINAL_EPISODES, seed=config.seed
        )
        found.append((checkpoint.step, result.mean))
    (directory / LATE).write_text(json.dumps(found))


def measures(rows: Iterable[Row]) -> dict[str, dict[str, np.ndarray]]:
    """What is compared: measure -> backend -> [seeds], of rows of one dtype."""
    runs: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        runs.setdefault((row.backend, row.seed), []).append(row)
    found: dict[str, dict[str, list[float]]] = {}
    for (backend, _), late in sorted(runs.items()):
        last = max(late, key=lambda row: row.step)
        values = {
            "most likely actions, last checkpoint": last.deterministic,
            f"most likely actions, last {CHECKPOINTS} checkpoints":
                float(np.mean([row.deterministic for row in late])),
            "sampled actions, last checkpoint": last.sampled,
            f"training episodes, last {LAST_UPDATES} updates": last.training,
        }  # fmt: skip
        for name, value in values.items():
            assert value is not None
            found.setdefault(name, {}).setdefault(backend, []).append(value)
    return {
        name: {backend: np.array(values) for backend, values in of.items()}
        for name, of in found.items()
    }


class Comparison(NamedTuple):
    """JAX minus PyTorch.

    Attributes:
        difference, low, high: of the means, with its 90 % interval (Welch).
        p: of a permutation test that the two are one population, two-sided.
        verdict: "equal", "different" or "undecided".
    """

    difference: float
    low: float
    high: float
    p: float
    verdict: str


def compare(jax: np.ndarray, torch: np.ndarray, margin: float) -> Comparison:
    """Two one-sided tests, and a permutation test beside them.

    Args:
        jax: [seeds] returns.
        torch: [seeds] returns; the number of seeds may differ.
        margin: Differences below it are called equal.
    """
    from scipy import stats

    result = stats.ttest_ind(jax, torch, equal_var=False)
    low, high = result.confidence_interval(0.9)
    p = stats.permutation_test(
        (jax, torch), lambda x, y, axis: x.mean(axis) - y.mean(axis), vectorized=True,
        n_resamples=9_999, rng=np.random.default_rng(0),
    ).pvalue  # fmt: skip
    if -margin < low and high < margin:
        verdict = "equal"
    else:
        verdict = "different" if p < 0.05 else "undecided"
    difference = float(jax.mean() - torch.mean())
    return Comparison(difference, float(low), float(high), float(p), verdict)


def table(env_id: str, rows: Sequence[Row]) -> str:
    """The comparison as Markdown."""
    margin = MARGINS[env_id]
    lines = [
        f"## {env_id}", "",
        f"Equal: the 90 % interval of the difference of means lies within ±{margin:g}, "
        "a tenth of what lies between a random policy and a solved task. p: of a "
        "permutation test that there is no difference.", "",
        "| dtype | return of | seeds | JAX (lowest) | PyTorch (lowest) | "
        "JAX minus PyTorch, 90 % | p | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for dtype in sorted({row.dtype for row in rows}):
        of_dtype = measures(row for row in rows if row.dtype == dtype)
        for name, of in of_dtype.items():
            if len(of) < 2 or min(map(len, of.values())) < 2:
                continue
            found = compare(of["jax"], of["torch"], margin)
            means = [
                f"{x.mean():.1f} ± {x.std(ddof=1):.1f} ({x.min():.0f})"
                for x in (of["jax"], of["torch"])
            ]
            counts = " and ".join(str(len(of[backend])) for backend in ("jax", "torch"))
            difference = f"{found.difference:.1f} [{found.low:.1f}, {found.high:.1f}]"
            cells = [dtype, name, counts, *means, difference, f"{found.p:.2f}"]
            lines.append(f"| {' | '.join([*cells, found.verdict])} |")
    return "\n".join([*lines, ""])


def write(path: Path, rows: Iterable[Row]) -> None:
    """In order, with two decimals."""
    cells = [
        [*row[:4], *(x if x is None else f"{x:.2f}" for x in row[4:])]
        for row in sorted(rows, key=lambda row: row[:4])
    ]
    write_csv(path, Row._fields, cells)


def report(results: Path) -> str:
    """The page of a directory of results."""
    files = {env_id: results / f"{env_id}.csv" for env_id in MARGINS}
    parts = [
        table(name, read_as(path, Row)) for name, path in files.items() if path.exists()
    ]
    return "\n".join(
        [
            "# Do the two backends learn equally?", "",
            "Both backends trained with the same seeds and the preset, each by itself. "
            "Written by `python -m benchmarks.learning.equivalence --report-only "
            "--publish`; the method stands in that file.", "",
            *parts,
        ]
    )  # fmt: skip


def main(arguments: Arguments) -> int:
    """Run what is missing, write rows and table; returns the exit status.

    Raises:
        ValueError: an environment has no margin.
    """
    if arguments.evaluate is not None:
        evaluate_late(arguments.evaluate)
        return 0
    if unknown := sorted(set(arguments.envs) - set(MARGINS)):
        raise ValueError(
            f"`envs`: expected some of {list(MARGINS)}, got {unknown[0]!r}. Give it a "
            "margin in MARGINS first: it has to be fixed before the runs."
        )
    console, status = Console(), 0
    results = arguments.folder(RESULTS)
    results.mkdir(parents=True, exist_ok=True)

    def save(spec: LateSpec) -> str:
        path = results / f"{spec.env_id}.csv"
        rows = spec.rows(arguments.runs)
        run = rows[0][:3]
        write(path, [*(row for row in read_as(path, Row) if row[:3] != run), *rows])
        return f"{spec.env_id} {run}: {rows[-1].deterministic:.1f}"

    if not arguments.report_only:
        status = run_all(
            planned(arguments), arguments.runs, arguments.workers, console, on_done=save
        )
    (results / "README.md").write_text(report(results))
    console.print(f"wrote {results / 'README.md'}", highlight=False, soft_wrap=True)
    if arguments.publish:
        pages.write()
    return status


def planned(arguments: Arguments) -> list[LateSpec]:
    """All runs, seed by seed, so that an unfinished study has as many of each."""
    overrides: tuple = ()
    if arguments.total_steps is not None:
        overrides += (("total_steps", arguments.total_steps),)
    if arguments.dtype != "float32":
        overrides += (("dtype", arguments.dtype),)
    label = "" if arguments.dtype == "float32" else arguments.dtype
    return [
        LateSpec(env_id, backend, seed, overrides, label, CHECKPOINTS)
        for seed in range(*arguments.seeds)
        for env_id in arguments.envs
        for backend in ("jax", "torch")
    ]


if __name__ == "__main__":
    run_command(main, Arguments)
