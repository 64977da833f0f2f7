"""A training loop of your own in PyTorch: rollout, GAE, scaled rewards, update.

python examples/own_loop_torch.py
"""

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from trpo.data.advantages import generalized_advantages, normalize_advantages
from trpo.data.normalization import ReturnScaler
from trpo_torch import TRPOAgent


def train(num_updates: int, num_envs: int = 8, steps: int = 256) -> list[float]:
    """The mean return of the episodes of each update on CartPole-v1."""
    make = [lambda: gymnasium.make("CartPole-v1")] * num_envs
    env = SyncVectorEnv(make, autoreset_mode=AutoresetMode.SAME_STEP)
    spaces = env.single_observation_space, env.single_action_space
    agent = TRPOAgent.for_spaces(*spaces, seed=0, normalize_observations=True)
    scaler, valid = ReturnScaler(num_envs, 0.99), np.ones((steps, num_envs), bool)
    obs, _ = env.reset(seed=0)
    running, curve = np.zeros(num_envs), []
    for _ in range(num_updates):
        rows, ended = [], []
        for _ in range(steps):
            action, log_prob, value = agent.act(obs)
            after, reward, terminated, truncated, info = env.step(
                agent.spec.to_environment(action)
            )
            final, done = after.copy(), terminated | truncated
            for i in np.flatnonzero(done):  # What the step led to, not the next start.
                final[i] = info["final_obs"][i]
            next_value = agent.value(final)[:, 0]
            rows.append((obs, action, log_prob, value[:, 0], next_value, reward,
                         terminated, truncated))  # fmt: skip
            running += reward
            ended += running[done].tolist()
            running[done], obs = 0.0, after
        o, a, p, v, nv, r, te, tr = map(np.stack, zip(*rows, strict=True))
        scaler.update(r, te | tr, valid)
        advantages, returns = generalized_advantages(
            r / scaler.scale, v, nv, te, tr, gamma=0.99, gae_lambda=0.95
        )
        size = steps * num_envs
        agent.update({
            "obs": o.reshape(size, -1), "actions": a.reshape(size, -1),
            "log_probs": p.reshape(size), "returns": returns.reshape(size),
            "advantages": normalize_advantages(advantages).reshape(size),
        })  # fmt: skip
        agent.observe(o.reshape(size, -1))  # After the update: its ratios begin at 1.
        curve.append(float(np.mean(ended)))
    env.close()
    return curve


if __name__ == "__main__":
    print(train(num_updates=40)[-1])
