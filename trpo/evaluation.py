"""Episodes of a fixed policy, scored by raw returns."""

import contextlib
import tempfile
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np

from trpo.action_masks import KEY
from trpo.batch_check import LARGEST
from trpo.closing import closing
from trpo.environments import make_environment, make_vector_environment
from trpo.files import Folder, opened
from trpo.noise import Purpose
from trpo.players import player_of
from trpo.rollout import RolloutCollector
from trpo.spaces import policy_spec
from trpo.transitions import Limits
from trpo.types import Agent
from trpo.user_modules import import_moviepy


class EvaluationResult(NamedTuple):
    """Undiscounted raw returns and lengths in steps of each episode, [episodes].

    `costs` are the sums of what its steps cost, for an agent with a limit on them.
    """

    returns: np.ndarray
    lengths: np.ndarray
    costs: np.ndarray | None = None

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Population standard deviation of the return."""
        return float(self.returns.std())


def evaluate(
    agent: Agent,
    env_id: str,
    *,
    episodes: int,
    seed: int,
    deterministic: bool = True,
) -> EvaluationResult:
    """Play `episodes` episodes with the agent as it is; nothing is learned.

    Each episode has its own environment, so that short episodes are not counted more
    often than long ones, and its own seed, a function of `seed` and its number.

    Args:
        agent: Its running normalisation is used and not changed.
        env_id: Gymnasium id.
        episodes: Number of episodes.
        seed: Seed of the episodes' resets.
        deterministic: Take the policy's most likely actions instead of sampling.
    """
    env = make_vector_environment(
        env_id, episodes, seed=seed, purpose=Purpose.EVALUATION_RESET
    )
    with closing(env.close):
        distribution = agent.config.policy_distribution
        limited = agent.config.cost_limit is not None
        limits = Limits(agent.largest_observation, LARGEST[agent.config.dtype])
        collector = RolloutCollector(env, distribution, costs=limited, limits=limits)
        return _play(agent, collector, deterministic)


def _play(
    agent: Agent, collector: RolloutCollector, deterministic: bool
) -> EvaluationResult:
    size = collector.env.num_envs
    returns, lengths = np.zeros(size), np.zeros(size, dtype=np.int64)
    costs = np.zeros(size)
    playing = np.ones(size, dtype=bool)
    player = player_of(agent, size)
    while playing.any():
        actions, _, _ = player.act(
            collector.obs, collector.starts, collector.action_mask, deterministic
        )
        step = collector.advance(actions)
        returns += np.where(playing, step.rewards, 0.0)
        if step.costs is not None:
            costs += np.where(playing, step.costs, 0.0)
        lengths += playing
        playing &= ~(step.terminated | step.truncated)
    return EvaluationResult(returns, lengths, costs if collector.reads_costs else None)


def record_video(
    agent: Agent, env_id: str, *, seed: int, directory: Path | Folder
) -> Path:
    """Record one deterministic episode as an MP4 file in `directory`.

    Raises:
        ValueError: the packages that rendering needs are not installed.
    """
    # Of its own: what lies in `directory` may be a stranger's links.
    with tempfile.TemporaryDirectory() as made:
        _record(agent, env_id, seed, f"{made}/film")
        (film,) = Path(made).glob("film/*.mp4")
        with opened(directory, make=True) as folder:
            folder.write(film.name, film.read_bytes())
            return folder.path / film.name


def _record(agent: Agent, env_id: str, seed: int, directory: str) -> None:
    try:
        env = make_environment(
            env_id,
            seed=seed,
            purpose=Purpose.EVALUATION_RESET,
            render_mode="rgb_array",
        )
        with contextlib.suppress(ImportError):  # It says itself what is missing.
            import_moviepy()
        env = gymnasium.wrappers.RecordVideo(
            env,
            directory,
            episode_trigger=lambda _: True,
            name_prefix=env_id.replace("/", "-"),
            disable_logger=True,
        )
        obs, info = env.reset()
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(
            f'`video`: {error} Install it by: pip install "trpo[video]".'
        ) from error
    done = False
    distribution = agent.config.policy_distribution
    spec = policy_spec(env.observation_space, env.action_space, distribution)
    masked = KEY in info
    player, starts = player_of(agent, 1), np.ones(1, dtype=bool)
    while not done:
        mask = spec.head.flat_mask(info[KEY])[None] if masked else None
        action, _, _ = player.act(np.reshape(obs, (1, -1)), starts, mask, True)
        starts = np.zeros(1, dtype=bool)
        sent = spec.one_to_environment(action[0])
        obs, _, terminated, truncated, info = env.step(sent)
        done = terminated or truncated
    env.close()
