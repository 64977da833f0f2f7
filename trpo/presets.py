"""Starting configurations per environment, each value with its reason or source."""

import dataclasses
from typing import Any, NamedTuple

import gymnasium

from trpo.config import TrainConfig, TRPOConfig


class Preset(NamedTuple):
    """A named starting configuration.

    Attributes:
        name: what it is called in messages.
        reason: where its values come from.
        run: fields of `TrainConfig` that differ from the default.
        agent: fields of `TRPOConfig` that differ from the default.
    """

    name: str
    reason: str
    run: dict[str, Any]
    agent: dict[str, Any]


DEFAULT = Preset(
    "default",
    "the original agent's defaults, with a faster and longer critic fit as in "
    "Stable-Baselines3 (learning rate 1e-3)",
    {},
    {"value_lr": 1e-3},
)
PENDULUM = Preset(
    "pendulum",
    "discount 0.93 looks far enough ahead to swing up once and catch (0.9, which RL "
    "Baselines3 Zoo uses, left some starts failing; 0.95 did so with some seeds); two "
    "whole episodes of each environment per update, so that every batch has all phases "
    "of the swing; bounded observations need no normalisation. Chosen among 30 "
    "variants on seeds 10 to 35",
    {
        "total_steps": 100_000,
        "num_envs": 4,
        "rollout_steps": 400,
        "normalize_observations": False,
    },
    {"gamma": 0.93, "gae_lambda": 0.95, "value_lr": 1e-3, "value_epochs": 20},
)
MUJOCO = Preset(
    "mujoco",
    "2,048 steps per update, 15 conjugate-gradient iterations and 20 critic epochs of "
    "128 as in RL Baselines3 Zoo",
    {"total_steps": 1_000_000, "num_envs": 8, "rollout_steps": 256},
    {
        "cg_iters": 15,
        "value_lr": 1e-3,
        "value_epochs": 20,
        "value_minibatch_size": 128,
    },
)

BY_ENVIRONMENT = {"Pendulum-v1": PENDULUM}
BY_MODULE = {"gymnasium.envs.mujoco": MUJOCO}


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


def preset_config(env_id: str, **overrides: Any) -> TrainConfig:
    """The preset's configuration for `env_id`, with fields of either level overridden.

    Raises:
        ValueError: an override's name is unknown or its value out of range.
    """
    preset = preset_for(env_id)
    agent_fields = {field.name for field in dataclasses.fields(TRPOConfig)}
    run, agent = dict(preset.run), dict(preset.agent)
    for name, value in overrides.items():
        (agent if name in agent_fields else run)[name] = value
    return TrainConfig.from_dict({"env_id": env_id, **run, "agent": agent})
