"""The study's tables, made from its CSV files alone."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.command import COMMITTED, REPOSITORY
from benchmarks.learning.statistics import Interval, difference_interval
from benchmarks.learning.training.published import PROTOCOLS, PUBLISHED
from benchmarks.learning.training.rows import Row, read_results
from benchmarks.learning.training.runs import RunSpec
from trpo.data.report import StepStatus
from trpo.sweeps.statistics import bootstrap_interval, interquartile_mean


Curves = dict[int, list[Row]]
Results = dict[tuple[str, str], Curves]

INTRODUCTION = """\
# Training results

Protocol: the **final** policy (not the best over training), deterministic, 20 episodes
per seed, raw returns, observation statistics frozen; one preset per environment
(`trpo presets ENV_ID`), the same in both backends, tuned on seeds that are not
reported: 100 and above, Pendulum's 10 to 35 ([tuning.md](tuning.md)). "Sampled" is the
same policy with its own noise. IQM is the interquartile mean over seeds with a 95 %
bootstrap interval; ± is the population standard deviation over seeds. Seconds are those
of one run's rollouts and updates, on whatever the machine did besides.

![Learning curves](learning_curves.png)
"""


def report(results: Path) -> Path:
    """Write `README.md` beside the CSV files; returns its path."""
    path = results / "README.md"
    path.write_text(page(results))
    return path


def page(results: Path) -> str:
    """The page of the CSV files in a directory."""
    data = read_results(results)
    parts = [INTRODUCTION, _returns(data), _updates(data)]
    parts += filter(
        None, (_backends(data), _peers(data, read_results(results / "peers")))
    )
    parts += [_commands(data, results), _published()]
    return "\n".join(parts)


def summary(folders: Iterable[Path]) -> str:
    """All final returns as one table, for the project's README."""
    header = ("environment", "backend", "steps", "seeds", "mean ± std over seeds")
    rows = []
    for folder in folders:
        for (env_id, backend), curves in read_results(folder).items():
            end = next(iter(curves.values()))[-1].step
            scores = final_returns(curves)
            rows.append(
                [
                    env_id,
                    {"jax": "JAX", "torch": "PyTorch"}.get(backend, backend),
                    f"{end:,}",
                    str(len(curves)),
                    spread(scores),
                    *_published_cells(env_id, end, float(scores.mean())),
                ]
            )
    table = _table("", (*header, "best published TRPO", "reached"), rows)
    return table.partition("\n\n")[2]


def _table(title: str, header: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [f"## {title}", "", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def spread(scores: np.ndarray) -> str:
    """Mean and population deviation over seeds; of one seed, there is no deviation."""
    mean = f"{scores.mean():,.1f}"
    return mean if len(scores) == 1 else f"{mean} ± {scores.std():,.1f}"


def final_returns(curves: Curves) -> np.ndarray:
    """Mean deterministic return of each seed's final policy, [seeds]."""
    return np.array([curve[-1].scores[0] for curve in curves.values()])


def _returns(data: Results) -> str:
    rows = []
    for (env_id, backend), curves in data.items():
        scores = final_returns(curves)
        ends = [curve[-1] for curve in curves.values()]
        sampled = np.array([end.scores[2] for end in ends], dtype=np.float64)
        rows.append(
            [
                env_id,
                backend,
                f"{ends[0].step:,}",
                _seeds(curves),
                spread(scores),
                f"{interquartile_mean(scores):,.1f} "
                f"{Interval(*bootstrap_interval(scores))}",
                spread(sampled),
                *_published_cells(env_id, ends[0].step, float(scores.mean())),
            ]
        )
    header = (
        *("environment", "backend", "steps", "seeds", "mean ± std"),
        *("IQM", "sampled, mean ± std", "best published TRPO", "reached"),
    )
    return _table("Returns", header, rows)


def _published_cells(env_id: str, steps: int, mean: float) -> tuple[str, str]:
    """The published mean, if it is of the same budget (in whole rollouts)."""
    published = PUBLISHED.get(env_id)
    if published is None or abs(steps / published.steps - 1) > 0.05:
        return "", ""
    std = "" if published.std is None else f" ± {published.std:,}"
    cell = f"{published.mean:,}{std} ({published.source}, {published.version})"
    return cell, "yes" if mean >= published.mean else "no"


def _updates(data: Results) -> str:
    rows = []
    for (env_id, backend), curves in data.items():
        ends = [curve[-1] for curve in curves.values()]
        counts = np.sum([end.statuses for end in ends], axis=0)
        seconds = np.array([end.training_seconds for end in ends])
        speed = sum(end.step for end in ends) / seconds.sum()
        rows.append(
            [env_id, backend, f"{seconds.mean():,.0f}", f"{speed:,.0f}"]
            + [f"{count:,}" for count in counts]
        )
    names = [status.name.lower().replace("_", " ") for status in StepStatus]
    header = ("environment", "backend", "seconds per run", "steps/s", *names)
    text = _table("Time, and how each update ended", header, rows)
    return f"{text}\n{_whole_time(data)}\n"


def _whole_time(data: Results) -> str:
    """How long the study took, by backend."""
    sentences = []
    for backend in sorted({backend for _, backend in data}):
        ends = [
            curve[-1].training_seconds
            for (_, its_backend), curves in data.items()
            if its_backend == backend
            for curve in curves.values()
        ]
        hours = sum(ends) / 3600
        sentences.append(
            f"All {len(ends)} runs in {backend} together: {hours:.1f} hours, "
            f"{hours / 2:.1f} hours of two at a time, each on one core."
        )
    return "  \n".join(sentences)


def _compared(
    title: str, names: tuple[str, str], pairs: dict[str, tuple[Curves, Curves]]
) -> str:
    """IQMs of two groups of runs and their difference; "" if no pair is comparable."""
    rows = []
    for env_id, (left, right) in pairs.items():
        steps = {curve[-1].step for curve in (*left.values(), *right.values())}
        # Whole rollouts: budgets differ by less than one of them.
        if min(len(left), len(right)) < 2 or max(steps) > 1.02 * min(steps):
            continue
        first, second = final_returns(left), final_returns(right)
        change = interquartile_mean(first) - interquartile_mean(second)
        interval = difference_interval(first, second)
        rows.append(
            [
                env_id,
                *(f"{_seeds(curves)}" for curves in (left, right)),
                *(f"{interquartile_mean(scores):,.1f}" for scores in (first, second)),
                f"{change:,.1f} {interval}",
                "yes" if interval.low <= 0 <= interval.high else "**no**",
            ]
        )
    if not rows:
        return ""
    header = ("environment", *(f"seeds {name}" for name in names))
    header += (*(f"IQM {name}" for name in names), "difference, 95 % interval")
    return _table(title, (*header, "contains 0"), rows)


def _seeds(curves: Curves) -> str:
    return ", ".join(map(str, curves))


def _backends(data: Results) -> str:
    """Torch against JAX on the seeds that both have run."""
    pairs = {}
    for env_id in dict.fromkeys(env_id for env_id, _ in data):
        torch, jax = (data.get((env_id, name), {}) for name in ("torch", "jax"))
        both = sorted(set(torch) & set(jax))
        pairs[env_id] = tuple({s: curves[s] for s in both} for curves in (torch, jax))
    return _compared("PyTorch against JAX, same seeds", ("torch", "JAX"), pairs)


def _peers(data: Results, peers: Results) -> str:
    """Ours against sb3-contrib's, on the same environments."""
    pairs = {
        env_id: (data[env_id, "jax"], curves)
        for (env_id, _), curves in peers.items()
        if (env_id, "jax") in data
    }
    table = _compared(
        "Ours (JAX) against sb3-contrib, same environments", ("ours", "peer"), pairs
    )
    if not table:
        return ""
    return table + (
        "\nsb3-contrib's TRPO with RL Baselines3 Zoo's settings, trained here by "
        "`python -m benchmarks.learning.peers` and evaluated by the same protocol.\n"
    )


def _commands(data: Results, results: Path) -> str:
    where = _where(results.resolve())
    lines = ["## Reproduce", "", "Tables and figures, from the CSV files here:", ""]
    lines += [f"    python -m benchmarks.learning.training --report-only{where}", ""]
    lines += ["A row, from nothing:", ""]
    for (env_id, backend), curves in data.items():
        seeds = " ".join(map(str, curves))
        steps = next(iter(curves.values()))[-1].step
        own = RunSpec(env_id, backend, seed=0).steps
        budget = "" if steps == own else f" --total-steps {steps}"
        lines.append(
            f"    python -m benchmarks.learning.training --envs {env_id} "
            f"--backends {backend} --seeds {seeds}{budget}{where}"
        )
    return "\n".join(lines) + "\n"


def _where(results: Path) -> str:
    """The option that names a directory of results."""
    if results == COMMITTED / "training":
        return " --publish"
    inside = results.is_relative_to(REPOSITORY)
    return f" --out {results.relative_to(REPOSITORY) if inside else results}"


def _published() -> str:
    lines = [
        "## Published numbers",
        "",
        "The best mean at the same number of steps that the libraries publish. Their "
        "environments are older versions (in brackets) than the v5 used here, and "
        "their protocols differ:",
        "",
    ]
    lines += [f"- {name}: {text}." for name, text in PROTOCOLS.items()]
    return "\n".join(lines) + "\n"
