"""The option study as a table."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.csv_files import read_csv
from benchmarks.learning.options.rows import LEFT_OUT, OPTIONS, PRESET
from benchmarks.learning.statistics import Interval, difference_interval
from trpo.config.presets import preset_config


class Times(NamedTuple):
    """An option's updates, timed in turns with the others'; the CSV's columns.

    Attributes:
        option: its name in `OPTIONS`.
        settings: what differs from the preset; of the preset, what the options change.
        low_ms, median_ms, high_ms: quartiles.
        of_preset: median over the preset's.
    """

    option: str
    settings: str
    low_ms: float
    median_ms: float
    high_ms: float
    of_preset: float


def times_of(env_id: str, seconds: Mapping[str, np.ndarray]) -> list[Times]:
    """The table's numbers of the seconds of each timed update, by option."""
    preset = 1e3 * float(np.median(seconds[PRESET]))
    found = []
    for name, own in seconds.items():
        low, middle, high = np.percentile(1e3 * own, (25, 50, 75))
        settings = _settings(env_id, name)
        found.append(Times(name, settings, low, middle, high, middle / preset))
    return found


def page(stem: Path) -> str:
    """Markdown: a row per option, each beside the preset, of the CSV files of a study.

    Args:
        stem: ENV_ID-BACKEND; outcomes are in `stem`.csv, times in `stem`-times.csv.
    """
    env_id, _, backend = stem.name.rpartition("-")
    outcomes = read_csv(stem.parent / f"{stem.name}.csv")
    times = {
        row["option"]: row for row in read_csv(stem.parent / f"{stem.name}-times.csv")
    }
    by_option: dict[str, list[dict[str, str]]] = {}
    for row in outcomes:
        by_option.setdefault(row["option"], []).append(row)
    steps, seeds = int(outcomes[0]["steps"]), dict.fromkeys(r["seed"] for r in outcomes)
    lines = [
        f"# {env_id}, {backend}: each option alone",
        "",
        f"{steps:,} steps, seeds {', '.join(seeds)}. Return: final "
        "policy, deterministic, 20 episodes; mean ± standard deviation over seeds. "
        "Interval: 95 %, bootstrap, of the difference of interquartile means from the "
        "preset's. Time: median of updates timed in turns on one batch, one thread; "
        "in brackets the quartiles.",
        "",
        "| option | return | less the preset's | products per update | accepted | "
        "KL of a step | explained variance | update, ms | of the preset's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in by_option.items():
        scores, took = _column(rows, "mean"), times[name]
        low, middle, high, ratio = map(float, list(took.values())[2:])
        lines.append(
            f"| {name} (`{took['settings']}`) | {scores.mean():,.1f} ± "
            f"{scores.std():,.1f} | {interval_of(by_option, name) or ''} | "
            f"{_column(rows, 'products').mean():.1f} | "
            f"{_column(rows, 'accepted').mean():.1%} | "
            f"{_column(rows, 'kl').mean():.4f} | "
            f"{_column(rows, 'explained_variance').mean():.2f} | "
            f"{middle:.1f} [{low:.1f}, {high:.1f}] | {ratio:.2f} |"
        )
    if missing := [name for name in OPTIONS if name not in by_option]:
        lines += ["", f"Not run: {', '.join(missing)}."]
    parts = ["python -m benchmarks.learning.options", "--envs", shlex.quote(env_id)]
    parts += ["--backend", backend, "--total-steps", str(steps)]
    lines += ["", f"    {' '.join(parts)}"]
    return "\n".join(lines) + "\n"


def told_apart(stem: Path) -> str:
    """A Markdown item: all options whose interval excludes 0, worse ones and better.

    Without those that were taken out again, which have a page of their own.
    """
    by_option: dict[str, list[dict[str, str]]] = {}
    outcomes = read_csv(stem.parent / f"{stem.name}.csv")
    for row in outcomes:
        by_option.setdefault(row["option"], []).append(row)
    found: dict[str, list[str]] = {"worse": [], "better": []}
    for name in [each for each in by_option if each not in LEFT_OUT]:
        interval = interval_of(by_option, name)
        if interval is not None and not interval.low <= 0 <= interval.high:
            found["worse" if interval.high < 0 else "better"].append(
                f"{name} {interval}"
            )
    said = "; ".join(f"{how}: {', '.join(of) or 'none'}" for how, of in found.items())
    env_id, seeds = stem.name.rpartition("-")[0], {row["seed"] for row in outcomes}
    return (
        f"- {env_id}, {int(outcomes[0]['steps']):,} steps, {len(seeds)} seeds: {said}"
    )


def left_out(stems: Sequence[Path]) -> str:
    """A Markdown table: each option that was taken out, with its numbers in each study.

    Args:
        stems: As of `page`.
    """
    names = [stem.name.rpartition("-")[0] for stem in stems]
    lines = [
        f"| option | what it did | {' | '.join(names)} | instead |",
        f"|---|---|{'---|' * len(stems)}---|",
    ]
    for name, (did, instead) in LEFT_OUT.items():
        cells = []
        for stem in stems:
            outcomes = read_csv(stem.parent / f"{stem.name}.csv")
            times = read_csv(stem.parent / f"{stem.name}-times.csv")
            by_option = {
                each: [row for row in outcomes if row["option"] == each]
                for each in (PRESET, name)
            }
            (took,) = [row for row in times if row["option"] == name]
            products = _column(by_option[name], "products").mean()
            cells.append(
                f"{interval_of(by_option, name)}; {products:.1f}; "
                f"{float(took['of_preset']):.2f}"
            )
        settings = f"`{took['settings']}`"
        lines.append(
            f"| {name} ({settings}) | {did} | {' | '.join(cells)} | {instead} |"
        )
    return "\n".join(lines)


def interval_of(
    by_option: Mapping[str, Sequence[Mapping[str, str]]], name: str
) -> Interval | None:
    """95 % interval of an option's return less the preset's; None of the preset."""
    if name == PRESET:
        return None
    scores, own = (_column(by_option[each], "mean") for each in (name, PRESET))
    return difference_interval(scores, own)


def _column(rows: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], dtype=np.float64)


def _settings(env_id: str, name: str) -> str:
    """An option's settings; of the preset, what options change."""
    if name == PRESET:
        agent = preset_config(env_id).agent
        return f"cg_iters={agent.cg_iters}, target_kl={agent.target_kl}"
    return ", ".join(f"{field}={value}" for field, value in OPTIONS[name])
