"""What each setting of a preset is worth: variants trained, compared, drawn.

    python -m benchmarks.learning.ablation --env HalfCheetah-v5 \
        --vary target_kl=0.01,0.03 gae_lambda=0.9,0.97 --total-steps 300000

One setting is changed at a time, or several together (`num_envs=2&rollout_steps=1024`);
the unchanged preset is run with the same seeds. Besides settings, `truncation=terminal`
takes time limits for ends, which the product can't.
Finished runs are skipped, so that a further value costs its own runs only.
"""

import ast
import dataclasses
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from benchmarks import pages
from benchmarks.command import Output, run_command
from benchmarks.csv_files import read_csv, write_csv
from benchmarks.learning.cut_as_end import cut_as_end_id
from benchmarks.learning.statistics import difference_interval
from benchmarks.learning.training.figures import draw_band, thousands
from benchmarks.learning.training.report import final_returns
from benchmarks.learning.training.rows import COLUMNS, Row, curves_of
from benchmarks.learning.training.runs import RunSpec
from trpo.config.presets import preset_config, preset_for
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.runs.learning_curves import OTHER_COLOURS
from trpo.sweeps.pool import run_all
from trpo.sweeps.statistics import interquartile_mean


RESULTS = "training/ablations"
PRESET = "preset"
PANELS_IN_A_ROW = 2
TRUNCATION, BOOTSTRAPPED, TERMINAL = "truncation", "bootstrapped", "terminal"


@dataclasses.dataclass
class Arguments(Output):
    """Train variants of a preset that differ in one setting each; compare and draw."""

    env: str
    """Gymnasium environment id."""
    vary: tuple[str, ...]
    """Settings and their values: NAME=VALUE,VALUE,… (layer sizes as 64x64), or several
    at once, one value each: NAME=VALUE&NAME=VALUE."""
    seeds: tuple[int, ...] = (100, 101, 102)
    """Seeds of each variant; by default none that the study reports."""
    backend: Literal["jax", "torch"] = "jax"
    """Framework."""
    total_steps: int | None = None
    """Environment steps of each run; by default the preset's."""
    workers: int = 2
    """Runs at a time, each in a process of one thread."""
    runs: Path = Path("runs/ablation")
    """Where the run directories are kept."""


def main(arguments: Arguments) -> int:
    """Run the variants, then write their CSV, table and figure; exit status."""
    console = Console()
    variants = planned(arguments)
    specs = [spec for runs in variants.values() for spec in runs]
    status = run_all(
        specs,
        arguments.runs,
        arguments.workers,
        console,
        on_done=lambda spec: f"{spec.label or PRESET}, seed {spec.seed}: done",
    )
    curves = {
        name: curves_of(
            [
                row
                for spec in runs
                if spec.is_done(arguments.runs)
                for row in spec.collect(arguments.runs)
            ]
        )
        for name, runs in variants.items()
    }
    curves = {name: members for name, members in curves.items() if members}
    if curves:
        stem = "-".join([arguments.env.replace("/", "-"), *_names(arguments.vary)])
        for path in write(curves, arguments, arguments.folder(RESULTS) / stem):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
        if arguments.publish:
            pages.write()
    return status


def planned(arguments: Arguments) -> dict[str, list[RunSpec]]:
    """Runs of the preset and of each variant, by the variant's name.

    Raises:
        ValueError: a setting or value is not usable.
    """
    budget = arguments.total_steps
    common = () if budget is None else (("total_steps", budget),)
    variants: dict[str, tuple[tuple[str, Any], ...]] = {PRESET: ()}
    for choice in arguments.vary:
        for label, changes in _changes(choice):
            if any(preset_value(arguments.env, name) != new for name, new in changes):
                variants[label] = changes
    return {
        label: [
            _run(arguments, seed, common + changes, "" if label == PRESET else label)
            for seed in arguments.seeds
        ]
        for label, changes in variants.items()
    }


def _run(
    arguments: Arguments, seed: int, changes: tuple[tuple[str, Any], ...], label: str
) -> RunSpec:
    """A run of the preset, changed; truncation is the environment's, not a setting."""
    env_id = arguments.env
    settings = tuple(change for change in changes if change[0] != TRUNCATION)
    if (TRUNCATION, TERMINAL) in changes:
        settings += (("preset", preset_for(env_id).name),)
        env_id = cut_as_end_id(env_id)
    return RunSpec(env_id, arguments.backend, seed, settings, label)


def _changes(choice: str) -> list[tuple[str, tuple[tuple[str, Any], ...]]]:
    """Variants that a choice asks for: their labels and changed settings."""
    return [
        (
            label,
            tuple(
                (name, parsed(name, text))
                for name, _, text in (part.partition("=") for part in label.split("&"))
            ),
        )
        for label in _labels(choice)
    ]


def _labels(choice: str) -> list[str]:
    """Variants that a choice asks for, also of settings that there were once."""
    if "&" in choice:
        return [choice]
    name, _, values = choice.partition("=")
    return [f"{name}={text}" for text in filter(None, values.split(","))]


def parsed(name: str, text: str) -> Any:
    """`text` as a value of the setting `name`.

    Raises:
        ValueError: there is no such setting, or the text is no value of its type.
    """
    fields = (*dataclasses.fields(TrainConfig), *dataclasses.fields(TRPOConfig))
    kinds = {field.name: type(field.default) for field in fields} | {TRUNCATION: str}
    if name not in kinds:
        raise ValueError(f"`vary`: expected one of {sorted(kinds)}, got {name!r}.")
    if name == TRUNCATION and text not in (BOOTSTRAPPED, TERMINAL):
        raise ValueError(
            f"`vary`: expected {TRUNCATION}={BOOTSTRAPPED} or {TERMINAL}, got {text!r}."
        )
    if kinds[name] is str:
        return text
    if kinds[name] is tuple:
        text = f"({text.replace('x', ',')},)"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ValueError(
            f"`vary`: expected a value of {name}, a {kinds[name].__name__}, got "
            f"{text!r}."
        ) from error
    return float(value) if kinds[name] is float else value


def preset_value(env_id: str, name: str) -> Any:
    """The preset's own value of a setting."""
    if name == TRUNCATION:
        return BOOTSTRAPPED
    config = preset_config(env_id)
    return getattr(config if hasattr(config, name) else config.agent, name)


def write(
    curves: dict[str, dict[int, list[Row]]], arguments: Arguments, stem: Path
) -> Iterable[Path]:
    """Write CSV, what was asked for, table and figure; returns their paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    suffixes = (".csv", ".json", ".md", ".png")
    paths = [stem.parent / f"{stem.name}{suffix}" for suffix in suffixes]
    cells = [
        [name, *row.cells()]
        for name, members in curves.items()
        for curve in members.values()
        for row in curve
    ]
    write_csv(paths[0], ("variant", *COLUMNS), cells)
    # The preset as it is now; it may be another when the table is written again.
    values = {
        name: preset_value(arguments.env, name) for name in _names(arguments.vary)
    }
    asked = {"env": arguments.env, "backend": arguments.backend, "preset": values}
    asked |= {"vary": arguments.vary, "seeds": arguments.seeds}
    asked |= {"total_steps": arguments.total_steps}
    paths[1].write_text(json.dumps(asked, indent=1) + "\n")
    paths[2].write_text(page(paths[0]))
    draw(paths[0])
    return paths


def _read(path: Path) -> dict[str, dict[int, list[Row]]]:
    """Curves of each variant, by seed."""
    rows: dict[str, list[Row]] = {}
    for cells in read_csv(path):
        rows.setdefault(cells["variant"], []).append(Row.from_cells(cells))
    return {name: curves_of(members) for name, members in rows.items()}


def page(path: Path) -> str:
    """Markdown of a study's CSV and of the JSON beside it, that says what was asked.

    A row per variant, with the difference from the preset.
    """
    curves, asked = _read(path), json.loads(path.with_suffix(".json").read_text())
    own = final_returns(curves[PRESET]) if PRESET in curves else None
    lines = [
        f"# {asked['env']}, {asked['backend']}: one setting changed at a time",
        "",
        *([asked["note"]] if "note" in asked else []),
        "Final policy, deterministic, 20 episodes per seed. IQM: interquartile mean "
        "over seeds; brackets: 95 % bootstrap interval.",
        "",
        "| variant | steps | seeds | mean ± std | IQM | IQM less the preset's |",
        "|---|---|---|---|---|---|",
    ]
    for name, members in curves.items():
        scores = final_returns(members)
        label = name
        if name == PRESET:
            values = (
                f"{setting}={tuple(value) if isinstance(value, list) else value}"
                for setting, value in asked["preset"].items()
            )
            label = f"preset ({', '.join(values)})"
        difference = ""
        if own is not None and name != PRESET:
            change = interquartile_mean(scores) - interquartile_mean(own)
            difference = f"{change:,.1f} {difference_interval(scores, own)}"
        steps = next(iter(members.values()))[-1].step
        lines.append(
            f"| {label} | {steps:,} | {', '.join(map(str, members))} | "
            f"{scores.mean():,.1f} ± {scores.std():,.1f} | "
            f"{interquartile_mean(scores):,.1f} | {difference} |"
        )
    steps = asked["total_steps"]
    choices = " ".join(map(shlex.quote, asked["vary"]))
    lines += [
        "",
        f"    python -m benchmarks.learning.ablation --env {asked['env']} "
        f"--vary {choices} --backend {asked['backend']} "
        f"--seeds {' '.join(map(str, asked['seeds']))}"
        f"{f' --total-steps {steps}' if steps else ''}",
    ]
    return "\n".join(lines) + "\n"


def draw(path: Path) -> None:
    """A panel per choice of a study's CSV: its values, and the preset in black."""
    from matplotlib.figure import Figure

    curves, asked = _read(path), json.loads(path.with_suffix(".json").read_text())
    choices = asked["vary"]
    columns = min(len(choices), PANELS_IN_A_ROW)
    rows = -(-len(choices) // columns)
    figure = Figure(
        figsize=(3.1 * columns + 0.6, 2.6 * rows + 0.5), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    panels, unused = grid[: len(choices)], grid[len(choices) :]
    for axes in unused:
        axes.remove()
    for axes, choice in zip(panels, choices, strict=True):
        settings = _names([choice])
        variants = [label for label in _labels(choice) if label in curves]
        for i, label in enumerate(variants):
            values = ", ".join(part.partition("=")[2] for part in label.split("&"))
            draw_band(axes, list(curves[label].values()), OTHER_COLOURS[i], values, i)
        if PRESET in curves:
            own = (str(asked["preset"][name]) for name in settings)
            label = f"{', '.join(own)} (preset)"
            draw_band(axes, list(curves[PRESET].values()), "black", label, 0)
        axes.set_title(", ".join(settings), fontsize=9)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=8)
        axes.xaxis.set_major_formatter(thousands)
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("return, deterministic policy", fontsize=9)
    figure.suptitle(f"{asked['env']}, {asked['backend']}", fontsize=10)
    figure.savefig(path.with_suffix(".png"), dpi=120)


def _names(vary: Iterable[str]) -> list[str]:
    """Settings that are varied, each once."""
    parts = (part.partition("=")[0] for choice in vary for part in choice.split("&"))
    return list(dict.fromkeys(parts))


if __name__ == "__main__":
    run_command(main, Arguments)
