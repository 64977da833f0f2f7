"""What a type checker makes of a user's script: it sees the mistakes, no others."""

import dataclasses
import inspect
import json
import subprocess
import sys
from typing import get_type_hints

from benchmarks.command import REPOSITORY
from trpo.agent.base import AgentBase
from trpo.config.agent import TRPOConfig
from trpo.config.callbacks import CallbackConfig
from trpo.config.options import AgentOptions, RunOptions, SpacesOptions
from trpo.config.run import TrainConfig


SCRIPT = """\
from gymnasium.spaces import Discrete
from trpo import Trainer, TrainConfig, TRPOConfig, load_agent, preset_config
from trpo_jax import TRPOAgent as JaxAgent
from trpo_torch import TRPOAgent

config = preset_config("Pendulum-v1", backend="jax")
agent = TRPOAgent(3, 1, -2.0, 2.0, "cpu", (64, 64), (64, 64))
twin = JaxAgent(3, 1, -2.0, 2.0, "cpu", (64, 64), (64, 64))
metrics: dict[str, float] = agent.update({})
"""
MISTAKES = (
    "config.agent.target_kll",
    "Trainer(config).run(5)",
    'TrainConfig(env_id="Pendulum-v1", rollout_steps="2048")',
    'TRPOConfig(activation="tanhh")',
    "twin.act()",
    'preset_config("Pendulum-v1", targt_kl=0.1)',
    'TRPOAgent(3, 1, -2.0, 2.0, "cpu", (64,), (64,), entropy_coefficient="x")',
    "TRPOAgent.for_spaces(Discrete(2), Discrete(2), seeds=3)",
    "Trainer(config).agent.act(1, 2, 3, 4, 5)",
    'load_agent("run")[0].updates',
)


def test_of_a_users_script_each_mistake_is_seen_and_nothing_else(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT + "\n".join(MISTAKES) + "\n")
    # As `make install` and pip put them where a checker finds them.
    settings = {"extraPaths": [str(REPOSITORY)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath"]
    done = subprocess.run(
        [*command, sys.executable, str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = SCRIPT.count("\n")
    wrong = {one["range"]["start"]["line"] - lines for one in found}
    assert wrong == set(range(len(MISTAKES)))


def test_keyword_options_are_the_fields_that_they_set():
    agent, run, callbacks = (
        {field.name: field.type for field in dataclasses.fields(kind)}
        for kind in (TRPOConfig, TrainConfig, CallbackConfig)
    )
    everything = agent | run | callbacks
    for name in ("env_id", "agent", "callbacks"):
        del everything[name]
    assert get_type_hints(RunOptions) == everything

    named = set(inspect.signature(AgentBase.__init__).parameters)
    named |= {"policy_distribution"}  # An agent calls it `distribution`.
    assert set(AgentOptions.__annotations__) == set(agent) - named
    named = set(inspect.signature(AgentBase.for_spaces).parameters)
    taken = set(agent) | {"seed", "normalize_observations", "observation_clip"}
    assert set(SpacesOptions.__annotations__) == taken - named
