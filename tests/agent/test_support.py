"""What can't be combined is refused by name, in the agent, compiled."""

import importlib

import numpy as np
import pytest

from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.config.support import (
    COMPILED,
    CONSTRAINED,
    CUSTOM,
    EXCLUSIONS,
    RECURRENT,
    require_supported,
)
from trpo.runs.compiled import compiled_run


# A value that each setting may not have.
OTHERS = {
    "activation": "relu", "layer_norm": True, "share_encoder": True,
    "images": ((0, 2, 2, 1),), "policy_network": np.tanh, "value_network": np.tanh,
    "cost_limit": 1.0, "fisher_every": 5, "batch_chunk_size": 64, "recurrent": "gru",
    "backend": "torch", "eval_max_steps": 100, "video_every": 1,
    "env_kwargs": {"a": 1}, "wrapper_class": "module:Wrapper",
    "omit_observations": ("a",), "action_masks": "method",
}  # fmt: skip
PAIRS = [(kind, rule.setting) for kind, rules in EXCLUSIONS.items() for rule in rules]


@pytest.mark.parametrize(("kind", "setting"), PAIRS)
def test_each_row_refuses_its_setting_and_takes_the_default(kind, setting):
    config = TRPOConfig()
    arguments = {setting: OTHERS[setting]}
    with pytest.raises(ValueError, match=f"`{setting}`: expected .* for {kind}, .*got"):
        require_supported(kind, config, **arguments)
    require_supported(kind, config, TrainConfig(env_id="Pendulum-v1"))


# Class of each kind, and how one gets that kind of agent.
AGENTS = {
    RECURRENT: ("RecurrentTRPOAgent", {"recurrent": "gru"}),
    CONSTRAINED: ("ConstrainedTRPOAgent", {"cost_limit": 25.0}),
    CUSTOM: ("TRPOAgent", {"policy_network": np.tanh}),
}


@pytest.mark.parametrize(
    ("kind", "setting"), [(kind, name) for kind, name in PAIRS if kind in AGENTS]
)
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_an_agent_refuses_before_anything_is_built(backend, kind, setting):
    name, options = AGENTS[kind]
    agent = getattr(importlib.import_module(f"trpo_{backend}"), name)
    sizes = (4, 2, -1.0, 1.0, "cpu", (8,), (8,))
    with pytest.raises(ValueError, match=f"`{setting}`: expected"):
        agent(*sizes, **(options | {setting: OTHERS[setting]}))


@pytest.mark.parametrize("setting", [rule.setting for rule in EXCLUSIONS[COMPILED]])
def test_a_compiled_run_refuses_before_it_writes(setting, tmp_path):
    changes = {"eval_interval": 1} if setting == "video_every" else {}
    config = preset_config(
        "phys2d/Pendulum-v0", **{"backend": "jax", setting: OTHERS[setting]} | changes
    )
    with pytest.raises(ValueError, match=f"`{setting}`: expected .* compiled training"):
        compiled_run(config, tmp_path / "run", 1, {})
    assert not (tmp_path / "run").exists()
