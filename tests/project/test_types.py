"""What a type checker makes of a user's script: it sees the mistakes, no others."""

import json
import subprocess
import sys

from benchmarks.command import REPOSITORY


SCRIPT = """\
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
