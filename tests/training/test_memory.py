"""A run in an environment of many states has its one-hots few times in memory."""

import subprocess
import sys

import pytest


# In a process of its own, whose peak is the update's. The samples in float32 are what
# no network that takes one-hots can do without.
RUN = """
import dataclasses
import gymnasium
from benchmarks.speed.timing import peak_bytes, resident_bytes
from trpo import Trainer
from trpo.config.presets import preset_config

STATES, ENVIRONMENTS, STEPS = 20_000, 8, 256


class Many(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(STATES)
    action_space = gymnasium.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return int(self.np_random.integers(STATES)), {}

    def step(self, action):
        ended = self.np_random.random() < 0.1
        return int(self.np_random.integers(STATES)), 1.0, ended, False, {}


gymnasium.register("Many-v0", Many)
config = preset_config(
    "CartPole-v1", backend="BACKEND", num_envs=ENVIRONMENTS, rollout_steps=STEPS,
    eval_episodes=0, value_epochs=2, total_steps=4 * ENVIRONMENTS * STEPS,
)
with Trainer(dataclasses.replace(config, env_id="Many-v0")) as trainer:
    before = resident_bytes()
    for _ in range(2):
        trainer.train_once()
    samples = ENVIRONMENTS * STEPS * STATES * 4
    print((peak_bytes() - before) / samples)
"""


@pytest.mark.parametrize(("backend", "most"), [("torch", 4.5), ("jax", 3.3)])
def test_one_hots_are_few_times_in_memory(backend, most):
    command = [sys.executable, "-c", RUN.replace("BACKEND", backend)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(found.stdout) < most
