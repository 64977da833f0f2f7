"""Runs' diagnostics as one page: no script, no font, no picture from elsewhere."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trpo.common.files import Folder
from trpo.common.terminal import visible
from trpo.data.report import StepStatus
from trpo.runs.curves import LoggedRun, load_runs, time_split
from trpo.runs.curves_figure import draw
from trpo.runs.learning_curves import png


STYLE = """
:root { --ink: #1c2430; --soft: #667080; --line: #d8dde4; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff;
  max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p { color: var(--soft); } img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
"""


def write_diagnostics(run_dirs: Sequence[Path], out: Path | None = None) -> list[Path]:
    """Write diagnostics.png and diagnostics.html of one run or several.

    Args:
        run_dirs: Run directories; one that holds many runs stands for all of them.
        out: Directory to write to; by default that of a single one, else the present.

    Returns:
        The two files.

    Raises:
        RunDirectoryError: a directory holds no run.
    """
    runs = load_runs(run_dirs)
    if out is None:
        out = run_dirs[0] if len(run_dirs) == 1 else Path()
    picture = png(draw(runs), dpi=110)
    contents = {
        "diagnostics.png": picture,
        "diagnostics.html": _page(runs, picture).encode(),
    }
    with Folder(out, make=True) as folder:
        for name, content in contents.items():
            folder.write(name, content)
    return [out / name for name in contents]


def _page(runs: Sequence[LoggedRun], picture: bytes) -> str:
    title = "; ".join(dict.fromkeys(run.config.env_id for run in runs))
    image = base64.b64encode(picture).decode()
    return "\n".join(
        [
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            # An empty icon, or a browser asks for one.
            "<link rel='icon' href='data:,'>",
            f"<title>{_text(title)}: diagnostics</title><style>{STYLE}</style></head>",
            f"<body><h1>{_text(title)}: {len(runs)} run(s)</h1>",
            "<h2>Final numbers</h2>",
            _final_numbers(runs),
            "<h2>Curves</h2>",
            f"<img alt='diagnostics' src='data:image/png;base64,{image}'>",
            "<h2>Configuration</h2>",
            _configurations(runs),
            "</body></html>\n",
        ]
    )


def _final_numbers(runs: Sequence[LoggedRun]) -> str:
    head = [
        "run", "steps", "updates", "final evaluation", "training return",
        "KL", "agreement", "explained variance", "updates without a step", "seconds",
    ]  # fmt: skip
    rows = []
    for run in runs:
        last: Mapping[str, float] = run.rows[-1] if run.rows else {}
        statuses = [row.get("policy/status", 0.0) for row in run.rows]
        seconds = time_split(run)
        rows.append(
            [
                run.label,
                _number(last.get("step"), ",.0f"),
                _number(last.get("update"), ",.0f"),
                _score(run),
                _number(last.get("rollout/episode_return_mean"), ".2f"),
                _number(last.get("policy/kl"), ".3g"),
                _number(last.get("policy/agreement"), ".3g"),
                _number(last.get("value/explained_variance"), ".3f"),
                str(sum(status != StepStatus.ACCEPTED for status in statuses)),
                ", ".join(f"{part} {n:.1f}" for part, n in seconds.items()) or "-",
            ]
        )
    return _table(head, rows)


def _score(run: LoggedRun) -> str:
    evaluation = run.evaluation
    if evaluation is None:
        return "-"
    return "{mean:.2f} ± {std:.2f} over {episodes}".format(**evaluation)


def _configurations(runs: Sequence[LoggedRun]) -> str:
    """Table of the settings that differ between runs; of a single run, all."""
    flat = [_flat(run.config.to_dict()) for run in runs]
    names = list(dict.fromkeys(name for values in flat for name in values))
    if len(runs) > 1:
        names = [n for n in names if len({repr(v.get(n)) for v in flat}) > 1]
        if not names:
            return "<p>The runs' configurations are equal.</p>"
    rows = [[name, *(str(values.get(name)) for values in flat)] for name in names]
    return _table(["field", *(run.label for run in runs)], rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = "".join(f"<th>{_text(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f"<div class='scroll'><table><thead><tr>{names}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _text(value: Any) -> str:
    return html.escape(visible(value))
