"""The option study as a table."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import OPTIONS, PRESET
from benchmarks.training_study_statistics import difference_interval
from trpo.presets import preset_config


def write_table(
    path: Path,
    env_id: str,
    outcomes: Sequence[Any],
    times: Mapping[str, np.ndarray],
    arguments: Any,
) -> None:
    """Markdown: a row per option, each beside the preset.

    Args:
        path: Where to write.
        env_id: The environment.
        outcomes: `option_study.Outcome` of each run.
        times: Seconds of each timed update, by option.
        arguments: The command's.
    """
    by_option: dict[str, list[Any]] = {}
    for row in outcomes:
        by_option.setdefault(row.option, []).append(row)
    steps = outcomes[0].steps
    lines = [
        f"# {env_id}, {arguments.backend}: each option alone",
        "",
        f"{steps:,} steps, seeds {', '.join(map(str, arguments.seeds))}. Return: final "
        "policy, deterministic, 20 episodes; mean ± standard deviation over seeds. "
        "Interval: 95 %, bootstrap, of the difference of interquartile means from the "
        "preset's. Time: median of updates timed in turns on one batch, one thread; "
        "in brackets the quartiles.",
        "",
        "| option | return | less the preset's | products per update | accepted | "
        "KL of a step | explained variance | update, ms | of the preset's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    own = _column(by_option.get(PRESET, []), "mean")
    for name, rows in by_option.items():
        scores = _column(rows, "mean")
        interval = ""
        if name != PRESET and len(own):
            interval = str(difference_interval(scores, own))
        milliseconds = 1e3 * times[name]
        low, middle, high = np.percentile(milliseconds, (25, 50, 75))
        ratio = middle / (1e3 * np.median(times[PRESET]))
        lines.append(
            f"| {_described(env_id, name)} | {scores.mean():,.1f} ± {scores.std():,.1f}"
            f" | {interval} | {_column(rows, 'products').mean():.1f} | "
            f"{_column(rows, 'accepted').mean():.1%} | "
            f"{_column(rows, 'kl').mean():.4f} | "
            f"{_column(rows, 'explained_variance').mean():.2f} | "
            f"{middle:.1f} [{low:.1f}, {high:.1f}] | {ratio:.2f} |"
        )
    missing = [name for name in OPTIONS if name not in by_option]
    if missing and not arguments.only:
        lines += ["", f"Not run: {', '.join(missing)}."]
    parts = ["python -m benchmarks.option_study", "--envs", shlex.quote(env_id)]
    parts += ["--backend", arguments.backend, "--total-steps", str(steps)]
    lines += ["", f"    {' '.join(parts)}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _column(rows: Sequence[Any], name: str) -> np.ndarray:
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)


def _described(env_id: str, name: str) -> str:
    """An option's name and its settings; the preset's with what the options change."""
    settings = [f"{field}={value}" for field, value in OPTIONS[name]]
    if name == PRESET:
        config = preset_config(env_id)
        settings = [
            f"cg_iters={config.agent.cg_iters}",
            f"target_kl={config.agent.target_kl}",
        ]
    return f"{name} (`{', '.join(settings)}`)"
