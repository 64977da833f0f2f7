"""One run of sb3-contrib's TRPO.

    python -m benchmarks.learning.peers.run ENV SEED STEPS DIR

Settings are RL Baselines3 Zoo's, in its `hyperparams/trpo.yml`, for the v4 environments
(it has none for v5); everything else is sb3-contrib's default.
"""

# The peers are an optional extra.
# pyright: reportMissingImports=false

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning.training.rows import Row, write_rows
from benchmarks.learning.training.runs import FINAL_EPISODES
from trpo.config.choices import INTERIM_EPISODES
from trpo.data.report import StepStatus


_MUJOCO: dict[str, Any] = {
    "n_steps": 1024, "batch_size": 128, "gamma": 0.99, "gae_lambda": 0.95,
    "sub_sampling_factor": 1, "cg_max_steps": 25, "cg_damping": 0.1,
    "n_critic_updates": 20, "learning_rate": 1e-3,
}  # fmt: skip
ZOO: dict[str, dict[str, Any]] = {
    "HalfCheetah-v5": {**_MUJOCO, "target_kl": 0.04},
    "Hopper-v5": _MUJOCO,
    "Walker2d-v5": _MUJOCO,
    "Ant-v5": _MUJOCO,
    "Swimmer-v5": {**_MUJOCO, "gamma": 0.9999},
}
NUM_ENVS = 2
EVALUATIONS = 10
FINISHED = "evaluations.csv"


def progress_file(directory: Path) -> Path:
    """Holds the number of steps done."""
    return directory / "steps.txt"


def main(env_id: str, seed: int, total_steps: int, directory: Path) -> None:
    """Train, evaluate along the way and at the end, write the evaluations."""
    import torch
    from sb3_contrib import TRPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)
    settings = ZOO[env_id]
    env = VecNormalize(
        make_vec_env(env_id, NUM_ENVS, seed=seed), gamma=settings["gamma"]
    )
    model = TRPO("MlpPolicy", env, seed=seed, device="cpu", verbose=0, **settings)
    chunk = NUM_ENVS * settings["n_steps"]
    updates = total_steps // chunk
    rows: list[Row] = []
    statuses = [0] * len(StepStatus)
    seconds = 0.0
    for update in range(1, updates + 1):
        start = time.perf_counter()
        model.learn(chunk, reset_num_timesteps=False)
        seconds += time.perf_counter() - start
        accepted = model.logger.name_to_value["train/is_line_search_success"]
        status = StepStatus.ACCEPTED if accepted else StepStatus.LINE_SEARCH_EXHAUSTED
        statuses[status] += 1
        progress_file(directory).write_text(str(update * chunk))
        last = update == updates
        if last or update % max(1, updates // EVALUATIONS) == 0:
            episodes = FINAL_EPISODES if last else INTERIM_EPISODES
            scores: tuple = (*evaluate(model, env, episodes), None, None)
            if last:
                scores = (*scores[:2], *evaluate(model, env, episodes, sampled=True))
            recent = [episode["r"] for episode in model.ep_info_buffer or ()]
            mean = float(np.mean(recent)) if recent else None
            rows.append(
                Row(seed, update * chunk, episodes, scores, mean, seconds,
                    tuple(statuses))
            )  # fmt: skip
    partial = directory / f"{FINISHED}.tmp"
    write_rows(partial, rows)
    partial.rename(directory / FINISHED)


def evaluate(
    model: Any, env: Any, episodes: int, sampled: bool = False
) -> tuple[float, float]:
    """Mean and deviation of raw returns, normaliser frozen."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    raw = make_vec_env(env.unwrapped.envs[0].spec.id, 1, seed=1_000_000 + model.seed)
    frozen = VecNormalize(raw, training=False, norm_reward=False)
    frozen.obs_rms = env.obs_rms
    mean, std = evaluate_policy(
        model, frozen, n_eval_episodes=episodes, deterministic=not sampled
    )
    return float(mean), float(std)


if __name__ == "__main__":
    name, seed_text, steps_text, path = sys.argv[1:]
    main(name, int(seed_text), int(steps_text), Path(path))
