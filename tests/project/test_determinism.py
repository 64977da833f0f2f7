"""The switch that has a GPU compute the same bits each time."""

import json
import os
import subprocess
import sys
from contextlib import closing
from typing import Literal

import pytest

from trpo.common.framework_settings import CUBLAS, XLA_FLAG
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.training.trainer import Trainer


BACKENDS: tuple[Literal["torch", "jax"], ...] = ("torch", "jax")
# In a process of its own: the settings are the whole process's.
SWITCHED = """
import json, os
from tests.project.test_determinism import BACKENDS, CUBLAS, XLA_FLAG, bits
import torch
found = {backend: bits(backend, True) for backend in BACKENDS}
assert torch.are_deterministic_algorithms_enabled()
assert os.environ[CUBLAS[0]] == CUBLAS[1]
assert XLA_FLAG in os.environ["XLA_FLAGS"]
print(json.dumps(found))
"""


def bits(backend: Literal["torch", "jax"], deterministic: bool) -> dict[str, str]:
    """All arrays of an agent after an update, as hexadecimal digits."""
    agent = TRPOConfig(policy_layer_sizes=(8,), critic_layer_sizes=(8,), value_epochs=1)
    config = TrainConfig(
        env_id="Pendulum-v1", backend=backend, deterministic=deterministic,
        num_envs=2, rollout_steps=16, agent=agent,
    )  # fmt: skip
    with closing(Trainer(config)) as trainer:
        trainer.train_once()
        state = trainer.agent.get_state()
    return {name: array.tobytes().hex() for name, array in state.items()}


def test_on_a_cpu_the_switch_changes_no_bit():
    env = {name: value for name, value in os.environ.items() if name != CUBLAS[0]}
    command = [sys.executable, "-c", SWITCHED]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: bits(name, False) for name in BACKENDS}


def test_jax_that_started_on_a_gpu_without_it_is_an_error(monkeypatch):
    import jax

    from trpo_jax.devices.device import use_deterministic_kernels

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(ValueError, match=r"`deterministic`: expected .* in XLA_FLAGS"):
        use_deterministic_kernels()
    monkeypatch.setenv("XLA_FLAGS", XLA_FLAG)
    use_deterministic_kernels()
