"""Runs' diagnostics as one page: no script, no font, no picture from elsewhere."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from trpo.common.files import Folder
from trpo.common.terminal import visible
from trpo.data.report import StepStatus
from trpo.runs.curves import LoggedRun, load_runs, time_split
from trpo.runs.curves_figure import draw
from trpo.runs.learning_curves import png


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
    loader = jinja2.PackageLoader("trpo.runs", "")
    # What runs name may hold anything: neither markup nor control characters pass.
    environment = jinja2.Environment(
        loader=loader, autoescape=True, finalize=_visible, keep_trailing_newline=True
    )
    return environment.get_template("diagnostics.html.jinja").render(
        title="; ".join(dict.fromkeys(run.config.env_id for run in runs)),
        count=len(runs),
        picture=base64.b64encode(picture).decode(),
        numbers=_final_numbers(runs),
        settings=_configurations(runs),
    )


def _final_numbers(runs: Sequence[LoggedRun]) -> list[list[str]]:
    """A table of each run's last numbers; its head comes first."""
    head = [
        "run", "steps", "updates", "final evaluation", "training return",
        "KL", "agreement", "explained variance", "updates without a step", "seconds",
    ]  # fmt: skip
    rows = [head]
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
    return rows


def _score(run: LoggedRun) -> str:
    evaluation = run.evaluation
    if evaluation is None:
        return "-"
    return "{mean:.2f} ± {std:.2f} over {episodes}".format(**evaluation)


def _configurations(runs: Sequence[LoggedRun]) -> list[list[str]]:
    """Table of the settings that differ between runs; of a single run, all."""
    flat = [_flat(run.config.to_dict()) for run in runs]
    names = list(dict.fromkeys(name for values in flat for name in values))
    if len(runs) > 1:
        names = [n for n in names if len({repr(v.get(n)) for v in flat}) > 1]
    rows = [[name, *(str(values.get(name)) for values in flat)] for name in names]
    return [["field", *(run.label for run in runs)], *rows]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _visible(value: Any) -> Any:
    return value if isinstance(value, Markup) else visible(value)
