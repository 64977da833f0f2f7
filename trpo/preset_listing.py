"""What `trpo presets` prints."""

import dataclasses
from typing import Any

import gymnasium
from rich.console import Console
from rich.table import Table

from trpo.config import TrainConfig, TRPOConfig
from trpo.presets import BY_ENVIRONMENT, Preset, all_presets, find_preset, preset_for


def list_presets(console: Console) -> None:
    """Print every preset with the size of its run and what it is for."""
    table = Table(box=None, pad_edge=False)
    for column in ("preset", "steps", "samples per update", "for"):
        table.add_column(column)
    for preset in all_presets().values():
        config = _values(preset)
        table.add_row(
            preset.name,
            f"{config['total_steps']:,}",
            f"{config['num_envs'] * config['rollout_steps']:,}",
            preset.summary,
        )
    console.print(table)
    console.print(
        "\nOne in full: trpo presets NAME; to use another than the environment's own: "
        "trpo train ENV_ID --preset NAME",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def show_preset(console: Console, name: str) -> None:
    """Print a preset's values, each with the default and its reason.

    Args:
        console: Where to print.
        name: A preset's name, or an environment's id.

    Raises:
        ValueError: it is neither.
    """
    preset = _preset_of(name)
    defaults = _defaults()
    console.print(f"{preset.name}: {preset.summary}", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "value", "default", "reason or source"):
        table.add_column(column)
    for field, (value, reason) in preset.settings.items():
        table.add_row(field, _text(value), _text(defaults[field]), reason)
    console.print(table)
    env_ids = [env_id for env_id, other in BY_ENVIRONMENT.items() if other is preset]
    command = (
        f"trpo train {env_ids[0]}"
        if env_ids
        else f"trpo train ENV_ID --preset {preset.name}"
    )
    console.print(f"\n  {command}", highlight=False, markup=False)


def _preset_of(name: str) -> Preset:
    if name in all_presets():
        return find_preset(name)
    if name in gymnasium.registry:
        return preset_for(name)
    raise ValueError(
        f"`name`: expected an environment's id or one of {', '.join(all_presets())}, "
        f"got {name!r}."
    )


def _defaults() -> dict[str, Any]:
    fields = (*dataclasses.fields(TrainConfig), *dataclasses.fields(TRPOConfig))
    return {field.name: field.default for field in fields}


def _values(preset: Preset) -> dict[str, Any]:
    return _defaults() | {name: s.value for name, s in preset.settings.items()}


def _text(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)
