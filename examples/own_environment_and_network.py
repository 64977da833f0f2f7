"""An environment and a network of your own; PyTorch trains it, JAX goes on with it.

python examples/own_environment_and_network.py
"""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from trpo import TrainConfig, evaluate, load_agent, train_run


class Reach(gymnasium.Env):
    """A point on a line is to be moved to 0."""

    observation_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin anywhere between -1 and 1."""
        super().reset(seed=seed)
        self.at, self.count = self.np_random.uniform(-1.0, 1.0, 1), 0
        return self.at.astype(np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        """Move; the reward is minus the squared distance."""
        self.at, self.count = np.clip(self.at + 0.2 * action, -2, 2), self.count + 1
        obs, reward = self.at.astype(np.float32), -float(self.at[0] ** 2)
        return obs, reward, False, self.count == 20, {}


def policy(obs_dim: int, outputs: int, seed: int, backend: str) -> Any:
    """One network in either framework: its modules have the same names in both."""
    if backend == "torch":
        from torch import nn

        last = nn.Linear(16, outputs)
        return nn.Sequential(nn.Linear(obs_dim, 16), nn.LayerNorm(16), nn.Tanh(), last)
    import jax
    from flax import nnx

    rngs = nnx.Rngs(seed)
    norm = nnx.LayerNorm(16, epsilon=1e-5, rngs=rngs)  # As PyTorch's.
    first, last = (nnx.Linear(*n, rngs=rngs) for n in ((obs_dim, 16), (16, outputs)))
    return nnx.Sequential(first, norm, jax.nn.tanh, last)


def train(run_dir: Path, total_steps: int) -> dict[str, float]:
    """The mean return in each backend of what PyTorch has learned."""
    config = TrainConfig(env_id="reach", backend="torch", total_steps=total_steps)
    train_run(config, run_dir, env=Reach, policy_network=policy)
    agents = {b: load_agent(run_dir, backend=b, policy_network=policy)[0]
              for b in ("torch", "jax")}  # fmt: skip
    return {b: evaluate(agent, Reach, episodes=20).mean for b, agent in agents.items()}


if __name__ == "__main__":
    print(train(Path("runs/own_environment"), 40_000))
