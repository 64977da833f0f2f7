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
from trpo.common.closing import closing, noting_failure
from trpo.common.files import Folder, opened
from trpo.common.random_streams import Purpose
from trpo.common.signals import Stop
from trpo.common.user_modules import import_moviepy
from trpo.common.validation import shown
from trpo.config.choices import STOP
from trpo.config.run import TrainConfig
from trpo.environments.contract import ACTION_MASK as KEY
from trpo.environments.environment_worker import EnvironmentWorkerError
from trpo.environments.make import Makes, make_environment, make_vector_environment
from trpo.environments.seeded import RESTORE
from trpo.environments.source import EnvironmentSource
from trpo.rollout.acting import actor_of
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.transitions import Limits, NonFiniteTransitionError, Transition
from trpo.spaces.spaces import policy_spec


# Steps of an episode where neither the environment nor the user has a limit. Atari's,
# 108,000 frames at four a step, is the longest in wide use.
MOST_STEPS = 27_000
# Likewise of an episode that is filmed, whose pictures are all in memory.
MOST_FILMED_STEPS = 2_000
# Environments that are made at a time, whatever a run has.
ENVIRONMENTS_AT_ONCE = 128
PICTURES = "rgb_array"


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
    env: Makes,
    *,
    episodes: int = 10,
    seed: int = 0,
    deterministic: bool = True,
    max_steps: int = 0,
    stop: Stop | None = None,
    show: Callable[[int, int, int], None] | None = None,
    on_bad_data: str = STOP,
    num_envs: int = 8,
    vectorization: str = "sync",
    timeout: float = 60.0,
) -> EvaluationResult:
    """Play `episodes` episodes with the agent as it is; nothing is learned.

    As many are played as are asked for, so that short episodes are not counted more
    often than long ones; each has its own seed, a function of `seed` and its number.

    Args:
        agent: Its running normalisation is used and not changed.
        env: Gymnasium id, a function that makes an environment, or one environment, in
            which all episodes are played, and which is not closed.
        episodes: Number of episodes.
        seed: Seed of the episodes' resets.
        deterministic: Take the policy's most likely actions instead of sampling.
        max_steps: Steps after which an episode is cut, with a warning; 0 for the
            environment's own limit, or `MOST_STEPS` if it has none.
        stop: Asked before each step; what is under way is cut once it is set.
        show: Called at each step with the episodes that have ended, the steps of
            those under way, and of all so far.
        on_bad_data: "stop" at an observation or reward that can't be used; or "drop"
            its episode, with a warning: it is left out, and counted.
        num_envs: Environments that there are at most at a time.
        vectorization: As of `make_vector_environment`; "envpool" plays in this
            process.
        timeout: Seconds that an environment in a worker has to answer.

    Raises:
        ValueError: the environment's actions are not the agent's.
        NonFiniteTransitionError: an observation or reward can't be used, and is not to
            be dropped; or no episode is left.
    """
    source = EnvironmentSource.of(env)
    is_open = isinstance(source.env, gymnasium.Env)
    size = 1 if is_open else min(num_envs, episodes, ENVIRONMENTS_AT_ONCE)
    here = is_open or vectorization == "envpool"
    vector = make_vector_environment(
        source, size, seed=seed, vectorization="sync" if here else vectorization,
        purpose=Purpose.EVALUATION_RESET, timeout=timeout, episodes=episodes,
    )  # fmt: skip
    with contextlib.nullcontext() if is_open else closing(vector.close):
        collector = _collector(vector, agent, on_bad_data)
        limit = max_steps or getattr(vector, "time_limit", None) or MOST_STEPS
        played = _Episodes(collector, episodes)
        result = _run_episodes(played, agent, deterministic, limit, stop, show)
    _warn_of(result, source.name, episodes)
    return result


def as_in_training(config: TrainConfig) -> dict[str, Any]:
    """Arguments of `evaluate`: the kind of vector that the environment trained in."""
    return {
        "num_envs": config.num_envs,
        "vectorization": config.vectorization,
        "timeout": config.environment_timeout,
        "on_bad_data": config.on_bad_data,
    }


def _collector(env: VectorEnv, agent: AgentBase, on_bad_data: str) -> RolloutCollector:
    collector = RolloutCollector(
        env,
        agent.config.policy_distribution,
        on_bad_data,
        costs=agent.config.cost_limit is not None,
        limits=Limits(agent.largest_observation, LARGEST[agent.config.dtype]),
    )
    if (needed := collector.spec.head) != agent.head:
        raise ValueError(
            f"`env`: expected actions as the agent's, {agent.head}, got an "
            f"environment that takes {needed}."
        )
    return collector


class _Episodes:
    """Scores of an evaluation's episodes; environment i plays i, i + B, i + 2 B, ….

    Args:
        collector: Of B environments, which rest after their last.
        episodes: Of all environments.
    """

    def __init__(self, collector: RolloutCollector, episodes: int) -> None:
        self.collector, self.size = collector, collector.env.num_envs
        self.returns, self.costs = np.zeros(episodes), np.zeros(episodes)
        self.lengths = np.zeros(episodes, dtype=np.int64)
        self.ended, self.dropped, self.cut = np.zeros((3, episodes), dtype=bool)
        self._numbers = np.zeros(self.size, dtype=np.int64)
        self._note_skipped(self._numbers)

    @property
    def playing(self) -> np.ndarray:
        """[B] whether an environment has an episode under way."""
        return self._indices < len(self.returns)

    @property
    def under_way(self) -> np.ndarray:
        """Indices of the episodes under way."""
        return self._indices[self.playing]

    @property
    def _indices(self) -> np.ndarray:
        return np.arange(self.size) + self.size * self._numbers

    def _note_skipped(self, following: np.ndarray) -> None:
        """Those that began badly, before another that is under way, are dropped."""
        self._numbers = self.collector.episode_numbers
        for i in np.flatnonzero(self._numbers > following):
            numbers = np.arange(following[i], self._numbers[i])
            skipped = i + self.size * numbers
            self.dropped[skipped[skipped < len(self.returns)]] = True

    def add(self, step: Transition, limit: int) -> None:
        """Take over a step; an episode that is longer than `limit` is cut."""
        playing, rows = self.playing, self.under_way
        done = step.terminated | step.truncated
        self.returns[rows] += step.rewards[playing]
        if step.costs is not None:
            self.costs[rows] += step.costs[playing]
        self.lengths[rows] += 1
        self.dropped[rows] |= step.dropped[playing]
        self.ended[rows] |= done[playing]
        self._note_skipped(self._numbers + done)
        over = np.zeros(self.size, dtype=bool)
        over[playing] = (self.lengths[rows] >= limit) & ~done[playing]
        if over.any():
            self.cut[self._indices[over]] = True
            following = self._numbers + over
            self.collector.abandon(over)
            self._note_skipped(following)

    def result(self, interrupted: bool) -> EvaluationResult:
        """Those that have begun and are not dropped."""
        self.cut[self.under_way] = True
        costs = self.costs if self.collector.reads_costs else None
        whole = EvaluationResult(
            self.returns, self.lengths, costs, self.cut, interrupted
        )
        chosen = (self.ended | self.cut) & ~self.dropped
        return whole.only(chosen)._replace(dropped=int(self.dropped.sum()))


def _run_episodes(
    episodes: _Episodes,
    agent: AgentBase,
    deterministic: bool,
    limit: int,
    stop: Stop | None,
    show: Callable[[int, int, int], None] | None,
) -> EvaluationResult:
    collector = episodes.collector
    actor = actor_of(agent, episodes.size)
    interrupted = False
    while episodes.playing.any():
        interrupted = stop is not None and stop.is_set()
        if interrupted:
            break
        if show is not None:
            lengths = episodes.lengths
            ended = int((episodes.ended | episodes.cut | episodes.dropped).sum())
            longest = int(lengths[episodes.under_way].max())
            show(ended, longest, int(lengths.sum()))
        actions = actor.act(
            collector.obs, collector.starts, collector.action_mask, deterministic
        )
        step = collector.advance(actions)
        collector.forget()
        episodes.add(step, limit)
    return episodes.result(interrupted)


def _warn_of(result: EvaluationResult, name: str, episodes: int) -> None:
    """Warn of episodes that were cut off or left out.

    Raises:
        NonFiniteTransitionError: all were left out.
    """
    why = "had a NaN, an infinity or a number too large in"
    if result.dropped and not len(result.returns):
        raise NonFiniteTransitionError(
            f"`on_bad_data`: expected some episodes of {name} to score, got none: each "
            f"{why} it."
        )
    if result.dropped:
        warnings.warn(
            f"`on_bad_data`: {result.dropped} of {episodes} episodes of {name} {why} "
            "them and are left out",
            stacklevel=3,
        )
    if not result.interrupted and result.under_way.any():
        cut = result.only(result.under_way)
        warnings.warn(
            f"`eval_max_steps`: {len(cut.returns)} episodes of {name} had not ended "
            f"after {cut.lengths.max():,} steps and were cut: their returns until "
            f"then, from {cut.returns.min():.2f} to {cut.returns.max():.2f}, count. "
            "Give another limit, or the environment a TimeLimit",
            stacklevel=3,
        )


def record_video(
    agent: AgentBase,
    env: Makes,
    *,
    seed: int,
    directory: Path | Folder,
    max_steps: int = 0,
    stop: Stop | None = None,
) -> Path:
    """Record one deterministic episode as an MP4 file in `directory`.

    Args:
        agent: See `evaluate`, as the others.
        env: Gymnasium id, or a function that makes an environment and takes its
            `render_mode`.
        seed: Seed of the reset.
        directory: To write to.
        max_steps: Steps after which the film ends, with a warning; 0 for the
            environment's own limit, or `MOST_FILMED_STEPS` if it has none.
        stop: Asked before each step; the film ends once it is set.

    Raises:
        ValueError: the packages that rendering needs are not installed, or the
            environment draws no pictures.
    """
    # Of its own: what lies in `directory` may be a stranger's links.
    with tempfile.TemporaryDirectory() as parent:
        ended = _record(agent, env, seed, f"{parent}/film", max_steps, stop)
        films = list(Path(parent).glob("film/*.mp4"))
        if not films:
            name = EnvironmentSource.of(env).name
            raise ValueError(
                f"`video`: expected a picture from each render() of {name}, got none "
                "from some, so that there is no film."
            )
        with opened(directory, make=True) as folder:
            folder.write(films[0].name, films[0].read_bytes())
            path = folder.path / films[0].name
    if not ended:
        warnings.warn(f"{path} ends before its episode does", stacklevel=2)
    return path


def filmed_environment(env: Makes, seed: int, option: str) -> gymnasium.Env:
    """An environment that draws pictures, just reset; one was drawn to see.

    Args:
        env: See `record_video`.
        seed: Of its episodes.
        option: Name of what asks for pictures, for an error.

    Raises:
        ValueError: it draws none, or a package that rendering needs is missing.
    """
    source = EnvironmentSource.of(env)
    options: dict[str, Any] = {"seed": seed, "purpose": Purpose.EVALUATION_RESET}
    try:
        import_moviepy()
        made = make_environment(source, render_mode=PICTURES, **options)
        try:
            made.reset()
            # Gymnasium's wrappers refuse a mode that is not offered.
            offered = made.render_mode == PICTURES
            picture = made.render() if offered else None
        except BaseException as cause:
            with noting_failure(cause):
                made.close()
            raise
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise ValueError(
            f'`{option}`: {error}. Install it by: pip install "trpo[video]".'
        ) from error
    except (EnvironmentWorkerError, gymnasium.error.Error, AssertionError) as error:
        shown_reason = getattr(error, "reason", str(error))
        raise ValueError(f"{_no_pictures(option, source)}: {shown_reason}.") from error
    if isinstance(picture, np.ndarray) and picture.ndim == 3:
        return made
    made.close()
    modes = made.metadata.get("render_modes", [])
    what = f"modes {modes}" if not offered else f"{shown(picture)} from render()"
    raise ValueError(f"{_no_pictures(option, source)} with {what}.")


def _no_pictures(option: str, source: EnvironmentSource) -> str:
    return (
        f"`{option}`: expected an environment that draws pictures, render_mode "
        f"{PICTURES!r}, got {source.name!r}"
    )


def _record(
    agent: AgentBase,
    env: Makes,
    seed: int,
    directory: str,
    max_steps: int,
    stop: Stop | None,
) -> bool:
    """Film an episode; whether it has ended."""
    filmed = filmed_environment(env, seed, "video")
    name, limit = EnvironmentSource.of(env).name, filmed.time_limit  # pyright: ignore
    with closing(lambda: filmed.close()):  # Which writes the film, once it films.
        filmed = gymnasium.wrappers.RecordVideo(
            filmed,
            directory,
            episode_trigger=lambda _: True,
            name_prefix=name.replace("/", "-"),
            disable_logger=True,
        )
        return _act(agent, filmed, max_steps or limit or MOST_FILMED_STEPS, stop)


def _act(agent: AgentBase, env: gymnasium.Env, limit: int, stop: Stop | None) -> bool:
    """Play an episode; whether it has ended."""
    # The first episode, which a picture was drawn of to see.
    obs, info = env.reset(options={RESTORE: {0: (0, ())}})
    distribution = agent.config.policy_distribution
    spec = policy_spec(env.observation_space, env.action_space, distribution)
    masked = KEY in info
    actor, starts = actor_of(agent, 1), np.ones(1, dtype=bool)
    for _ in range(limit):
        if stop is not None and stop.is_set():
            break
        mask = spec.head.flat_mask(info[KEY])[None] if masked else None
        action = actor.act(np.reshape(obs, (1, -1)), starts, mask, True)
        starts = np.zeros(1, dtype=bool)
        sent = spec.one_to_environment(action[0])
        obs, _, terminated, truncated, info = env.step(sent)
        if terminated or truncated:
            return True
    return False
