"""The tables that `trpo presets` prints."""

import dataclasses
from typing import Any

from trpo.common.terminal import Terminal
from trpo.config.presets import (
    BY_ENVIRONMENT,
    Preset,
    all_presets,
    find_preset,
)
from trpo.config.run import TrainConfig, TRPOConfig


def show_presets(terminal: Terminal, name: str | None) -> None:
    """Print every preset with the size of its run and what it is for; or one's values.

    Args:
        terminal: Where to print.
        name: A preset's name, or an environment's id.

    Raises:
        ValueError: it is neither.
    """
    if name is not None:
        _show_one(terminal, name)
        return
    rows = []
    for preset in all_presets().values():
        config = _values(preset)
        rows.append(
            (
                preset.name,
                f"{config['total_steps']:,}",
                f"{config['num_envs'] * config['rollout_steps']:,}",
                preset.summary,
            )
        )
    terminal.table(("preset", "steps", "samples per update", "for"), rows)
    terminal.say(
        "",
        "  one, with its reasons:            trpo presets NAME",
        "  in place of ENV_ID's own preset:  trpo train ENV_ID --preset NAME",
    )


def _show_one(terminal: Terminal, name: str) -> None:
    """Print a preset's values, each with the default and its reason."""
    preset = find_preset(name)
    defaults = _defaults()
    terminal.say(f"{preset.name}: {preset.summary}")
    terminal.table(
        ("setting", "value", "default", "reason or source"),
        [
            (field, _text(value), _text(defaults[field]), reason)
            for field, (value, reason) in preset.settings.items()
        ],
    )
    env_ids = [env_id for env_id, other in BY_ENVIRONMENT.items() if other is preset]
    command = (
        f"trpo train {env_ids[0]}"
        if env_ids
        else f"trpo train ENV_ID --preset {preset.name}"
    )
    terminal.say("", f"  {command}")


def _defaults() -> dict[str, Any]:
    fields = (*dataclasses.fields(TrainConfig), *dataclasses.fields(TRPOConfig))
    return {field.name: field.default for field in fields}


def _values(preset: Preset) -> dict[str, Any]:
    return _defaults() | {name: s.value for name, s in preset.settings.items()}


def _text(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)
