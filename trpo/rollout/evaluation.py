"""Episodes of a fixed policy, scored by raw returns."""

import contextlib
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from trpo.agent.base import AgentBase
from trpo.agent.batch_checks import LARGEST
from trpo.common.closing import closing
from trpo.common.files import Folder, opened
from trpo.common.random_streams import Purpose
from trpo.common.signals import Stop
from trpo.common.user_modules import import_moviepy
from trpo.config.choices import STOP
from trpo.environments.action_masks import KEY
from trpo.environments.make import make_environment, make_vector_environment
from trpo.rollout.acting import actor_of
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.transitions import Limits, NonFiniteTransitionError
from trpo.spaces.spaces import policy_spec


# Steps of an episode where neither the environment nor the user has a limit. Atari's,
# 108,000 frames at four a step, is the longest in wide use.
MOST_STEPS = 27_000
# Likewise of an episode that is filmed, whose pictures are all in memory.
MOST_FILMED_STEPS = 2_000
# Environments that are made at a time: whole evaluations of the usual sizes.
ENVIRONMENTS_AT_ONCE = 128


class EvaluationResult(NamedTuple):
    """Undiscounted raw returns and lengths in steps of each episode, [episodes].

    Attributes:
        returns: sum of its rewards.
        lengths: steps.
        costs: sum of what its steps cost, for an agent with a limit on that.
        cut: whether it had not ended when its limit of steps, or a request to stop,
            came; its return is that of the steps before. None: all have ended.
        interrupted: whether it was a request to stop; episodes may then be missing.
        dropped: episodes that are left out, as their data can't be used.
    """

    returns: np.ndarray
    lengths: np.ndarray
    costs: np.ndarray | None = None
    cut: np.ndarray | None = None
    interrupted: bool = False
    dropped: int = 0

    @property
    def under_way(self) -> np.ndarray:
        """Whether each episode was cut, [episodes]."""
        return np.zeros(len(self.returns), bool) if self.cut is None else self.cut

    def only(self, chosen: np.ndarray) -> "EvaluationResult":
        """The episodes that `chosen` [episodes] names."""
        return self._replace(
            returns=self.returns[chosen],
            lengths=self.lengths[chosen],
            costs=None if self.costs is None else self.costs[chosen],
            cut=self.under_way[chosen],
        )

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Population standard deviation of the return."""
        return float(self.returns.std())


def evaluate(
    agent: AgentBase,
    env_id: str,
    *,
    episodes: int,
    seed: int,
    deterministic: bool = True,
    max_steps: int = 0,
    stop: Stop | None = None,
    show: Callable[[int, int], None] | None = None,
    on_bad_data: str = STOP,
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
        max_steps: Steps after which an episode is cut, with a warning; 0 for the
            environment's own limit, or `MOST_STEPS` if it has none.
        stop: Asked before each step; what is under way is cut once it is set.
        show: Called at each step with the episodes that have ended, and the steps of
            those under way.
        on_bad_data: "stop" at an observation or reward that can't be used; or "drop"
            its episode, with a warning: it is left out, and counted.

    Raises:
        NonFiniteTransitionError: an observation or reward can't be used, and is not to
            be dropped; or no episode is left.
    """
    parts: list[EvaluationResult] = []
    for first in range(0, episodes, ENVIRONMENTS_AT_ONCE):
        share = slice(first, first + ENVIRONMENTS_AT_ONCE)
        env = make_vector_environment(
            env_id, episodes, seed=seed, purpose=Purpose.EVALUATION_RESET, share=share
        )
        with closing(env.close):
            collector = _collector(env, agent, on_bad_data)
            most = max_steps or _time_limit(env, MOST_STEPS)

            def now(ended: int, steps: int, before: int = first) -> None:
                if show is not None:
                    show(before + ended, steps)

            parts.append(
                _run_episodes(agent, collector, deterministic, most, stop, now)
            )
        if parts[-1].interrupted:
            break
    result = _merged(parts, env_id)
    for message in _warnings_of(result, env_id, episodes):
        warnings.warn(message, stacklevel=2)
    return result


def _collector(env: VectorEnv, agent: AgentBase, on_bad_data: str) -> RolloutCollector:
    return RolloutCollector(
        env,
        agent.config.policy_distribution,
        on_bad_data,
        costs=agent.config.cost_limit is not None,
        limits=Limits(agent.largest_observation, LARGEST[agent.config.dtype]),
    )


def _time_limit(env: Any, otherwise: int) -> int:
    """Steps after which the environment itself ends an episode, if it says so."""
    one = env.envs[0] if isinstance(env, gymnasium.vector.SyncVectorEnv) else env
    while isinstance(one, gymnasium.Wrapper):
        if isinstance(one, gymnasium.wrappers.TimeLimit):
            return one._max_episode_steps
        one = one.env
    return otherwise


def _run_episodes(
    agent: AgentBase,
    collector: RolloutCollector,
    deterministic: bool,
    most: int,
    stop: Stop | None,
    show: Callable[[int, int], None],
) -> EvaluationResult:
    size = collector.env.num_envs
    returns, lengths = np.zeros(size), np.zeros(size, dtype=np.int64)
    costs = np.zeros(size)
    # One that began badly has been left for another, of the next number.
    dropped = collector.episode_numbers > 0
    playing = ~dropped
    actor = actor_of(agent, size)
    interrupted = False
    for steps in range(most):
        interrupted = stop is not None and stop.is_set()
        if interrupted or not playing.any():
            break
        show(size - int(playing.sum()), steps)
        actions, _, _ = actor.act(
            collector.obs, collector.starts, collector.action_mask, deterministic
        )
        step = collector.advance(actions)
        collector.forget()
        returns += np.where(playing, step.rewards, 0.0)
        if step.costs is not None:
            costs += np.where(playing, step.costs, 0.0)
        lengths += playing
        dropped |= playing & step.dropped
        playing &= ~(step.terminated | step.truncated)
    of_costs = costs if collector.reads_costs else None
    result = EvaluationResult(returns, lengths, of_costs, playing, interrupted)
    return result.only(~dropped)._replace(dropped=int(dropped.sum()))


def _merged(parts: list[EvaluationResult], env_id: str) -> EvaluationResult:
    """All parts' episodes.

    Raises:
        NonFiniteTransitionError: each of them was dropped.
    """
    returns, lengths, costs, cut, interrupted, dropped = zip(*parts, strict=True)
    if any(dropped) and not any(map(len, returns)):
        raise NonFiniteTransitionError(
            f"`on_bad_data`: expected some episodes of {env_id} to score, got none: "
            "each had a NaN, an infinity or a number too large in it."
        )
    return EvaluationResult(
        np.concatenate(returns),
        np.concatenate(lengths),
        None if costs[0] is None else np.concatenate(costs),
        np.concatenate(cut),
        any(interrupted),
        sum(dropped),
    )


def _warnings_of(result: EvaluationResult, env_id: str, episodes: int) -> list[str]:
    """Warnings of episodes that were cut off, left out or are missing."""
    said = []
    if result.dropped:
        said.append(
            f"`on_bad_data`: {result.dropped} of {episodes} episodes of {env_id} had a "
            "NaN, an infinity or a number too large in them and are left out"
        )
    if not result.interrupted and result.under_way.any():
        cut = result.only(result.under_way)
        said.append(
            f"`eval_max_steps`: {len(cut.returns)} episodes of {env_id} had not ended "
            f"after {cut.lengths.max():,} steps and were cut: their returns until "
            f"then, from {cut.returns.min():.2f} to {cut.returns.max():.2f}, count. "
            "Give another limit, or the environment a TimeLimit"
        )
    return said


def record_video(
    agent: AgentBase,
    env_id: str,
    *,
    seed: int,
    directory: Path | Folder,
    max_steps: int = 0,
    stop: Stop | None = None,
) -> Path:
    """Record one deterministic episode as an MP4 file in `directory`.

    Args:
        agent: See `evaluate`, as the others.
        env_id: Gymnasium id.
        seed: Seed of the reset.
        directory: To write to.
        max_steps: Steps after which the film ends, with a warning; 0 for the
            environment's own limit, or `MOST_FILMED_STEPS` if it has none.
        stop: Asked before each step; the film ends once it is set.

    Raises:
        ValueError: the packages that rendering needs are not installed.
    """
    # Of its own: what lies in `directory` may be a stranger's links.
    with tempfile.TemporaryDirectory() as parent:
        ended = _record(agent, env_id, seed, f"{parent}/film", max_steps, stop)
        (film,) = Path(parent).glob("film/*.mp4")
        with opened(directory, make=True) as folder:
            folder.write(film.name, film.read_bytes())
            path = folder.path / film.name
    if not ended:
        warnings.warn(f"{path} ends before its episode does", stacklevel=2)
    return path


def _record(
    agent: AgentBase,
    env_id: str,
    seed: int,
    directory: str,
    max_steps: int,
    stop: Stop | None,
) -> bool:
    """Film an episode; whether it has ended."""
    try:
        env = make_environment(
            env_id,
            seed=seed,
            purpose=Purpose.EVALUATION_RESET,
            render_mode="rgb_array",
        )
        with contextlib.suppress(ImportError):  # It says itself what is missing.
            import_moviepy()
        with closing(lambda: env.close()):  # Which writes the film, once it films.
            env = gymnasium.wrappers.RecordVideo(
                env,
                directory,
                episode_trigger=lambda _: True,
                name_prefix=env_id.replace("/", "-"),
                disable_logger=True,
            )
            return _act(agent, env, max_steps, stop)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(
            f'`video`: {error} Install it by: pip install "trpo[video]".'
        ) from error


def _act(
    agent: AgentBase, env: gymnasium.Env, max_steps: int, stop: Stop | None
) -> bool:
    """Play an episode; whether it has ended."""
    obs, info = env.reset()
    distribution = agent.config.policy_distribution
    spec = policy_spec(env.observation_space, env.action_space, distribution)
    masked = KEY in info
    actor, starts = actor_of(agent, 1), np.ones(1, dtype=bool)
    for _ in range(max_steps or _time_limit(env, MOST_FILMED_STEPS)):
        if stop is not None and stop.is_set():
            break
        mask = spec.head.flat_mask(info[KEY])[None] if masked else None
        action, _, _ = actor.act(np.reshape(obs, (1, -1)), starts, mask, True)
        starts = np.zeros(1, dtype=bool)
        sent = spec.one_to_environment(action[0])
        obs, _, terminated, truncated, info = env.step(sent)
        if terminated or truncated:
            return True
    return False
