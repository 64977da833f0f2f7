"""Eight seeds at once in one JAX program, on an environment of your own; a figure.

python examples/eight_seeds.py
"""

from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from gymnasium.envs.functional_jax_env import FunctionalJaxEnv
from gymnasium.experimental.functional import FuncEnv

from trpo import train_compiled


class Reach(FuncEnv):
    """A point on a line is to be moved to 0: pure functions of the state."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def initial(self, rng: Any, params: Any = None) -> jax.Array:
        """Anywhere between -1 and 1."""
        return jax.random.uniform(rng, (1,), minval=-1.0, maxval=1.0)

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        """Move."""
        return state + 0.2 * jnp.clip(action, -1.0, 1.0)

    def observation(self, state: Any, rng: Any, params: Any = None) -> jax.Array:
        """The place."""
        return state

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any,
               params: Any = None) -> jax.Array:  # fmt: skip
        """Minus the squared distance."""
        return -jnp.sum(next_state**2)

    def terminal(self, state: Any, rng: Any, params: Any = None) -> jax.Array:
        """Never; the time limit ends an episode."""
        return jnp.zeros((), bool)


def train(figure: Path, total_steps: int) -> np.ndarray:
    """The final return of each seed; the curves are drawn into `figure`."""
    env = gymnasium.wrappers.TimeLimit(FunctionalJaxEnv(Reach()), 20)
    result = train_compiled(env, seeds=range(8), total_steps=total_steps)
    plt.plot(result.steps, result.curves["rollout/episode_return_mean"].T)
    plt.savefig(figure)
    plt.close()
    return result.final_returns


if __name__ == "__main__":
    print(train(Path("eight_seeds.png"), total_steps=100_000))
