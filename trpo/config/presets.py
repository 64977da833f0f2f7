"""Which preset an environment gets, and the configuration that it makes."""

import dataclasses
import re
from typing import Any, Unpack

import gymnasium

from trpo.common.validation import close_to
from trpo.config.callbacks import CallbackConfig
from trpo.config.classic_presets import (
    BY_ENVIRONMENT,
    DEFAULT,
    PENDULUM,
)
from trpo.config.mujoco_presets import MUJOCO
from trpo.config.options import RunOptions
from trpo.config.preset import Preset, Setting
from trpo.config.run import TrainConfig, TRPOConfig


__all__ = [
    "BY_ENVIRONMENT",
    "DEFAULT",
    "MUJOCO",
    "PENDULUM",
    "Preset",
    "Setting",
    "all_presets",
    "command_arguments",
    "find_preset",
    "preset_config",
    "preset_for",
    "settings_of",
    "versioned",
]

BY_MODULE = {"gymnasium.envs.mujoco": MUJOCO}


def all_presets() -> dict[str, Preset]:
    """Every preset by name."""
    presets = (*BY_ENVIRONMENT.values(), *BY_MODULE.values(), DEFAULT)
    return {preset.name: preset for preset in presets}


def versioned(env_id: str) -> str:
    """The id itself, or of one without a version the newest, as Gymnasium takes it."""
    module, colon, name = env_id.rpartition(":")
    matching = re.compile(f"{re.escape(name)}-v([0-9]+)")
    versions = [int(m[1]) for m in map(matching.fullmatch, gymnasium.registry) if m]
    if name in gymnasium.registry or not versions:
        return env_id
    return f"{module}{colon}{name}-v{max(versions)}"


def find_preset(name: str) -> Preset:
    """The preset called `name`, or that of the environment with this id.

    Raises:
        ValueError: there is neither.
    """
    presets = all_presets()
    if name in presets:
        return presets[name]
    if name in gymnasium.registry:
        return preset_for(name)
    raise ValueError(
        f"`preset`: expected an environment's id or one of {', '.join(presets)}, got "
        f"{name!r}.{close_to(name, [*presets, *BY_ENVIRONMENT])}"
    )


def preset_for(env_id: str) -> Preset:
    """The preset of an environment, of its family, or the default; never fails."""
    if env_id in BY_ENVIRONMENT:
        return BY_ENVIRONMENT[env_id]
    spec = gymnasium.registry.get(env_id)
    entry_point = str(spec.entry_point) if spec is not None else ""
    for module, preset in BY_MODULE.items():
        if entry_point.startswith(module):
            return preset
    return DEFAULT


def preset_config(
    env_id: str, preset: str | None = None, **overrides: Unpack[RunOptions]
) -> TrainConfig:
    """A preset's configuration for `env_id`, with fields of either level overridden.

    Args:
        env_id: Gymnasium id; without a version, the newest.
        preset: Name of a preset; by default the environment's own.
        overrides: Fields of `TrainConfig`, `TRPOConfig` or `CallbackConfig`.

    Raises:
        ValueError: the preset or an override's name is unknown, or a value is out of
            range.
    """
    chosen = preset_for(versioned(env_id)) if preset is None else find_preset(preset)
    agent_fields = {field.name for field in dataclasses.fields(TRPOConfig)}
    callback_fields = {field.name for field in dataclasses.fields(CallbackConfig)}
    values = {name: setting.value for name, setting in chosen.settings.items()}
    run: dict[str, Any] = {"env_id": versioned(env_id)}
    agent: dict[str, Any] = {}
    callbacks: dict[str, Any] = {}
    for name, value in (values | overrides).items():
        part = agent if name in agent_fields else run
        (callbacks if name in callback_fields else part)[name] = value
    return TrainConfig.from_dict({**run, "agent": agent, "callbacks": callbacks})


def command_arguments(config: TrainConfig) -> list[str]:
    """Arguments of `trpo train` that make `config`: what its preset does not."""
    preset = settings_of(preset_config(config.env_id))
    arguments = [config.env_id]
    for name, value in settings_of(config).items():
        if value == preset[name]:
            continue
        flag = "module" if name == "modules" else name.replace("_", "-")
        if isinstance(value, bool):
            arguments += [f"--{flag}" if value else f"--no-{flag}"]
        else:
            values = value if isinstance(value, tuple) else (value,)
            arguments += [f"--{flag}", *map(str, values)]
    return arguments


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """All fields of a configuration and of its parts, whose names do not overlap."""
    values = config.to_dict()
    agent, callbacks = values.pop("agent"), values.pop("callbacks")
    return {**values, **agent, **callbacks}
