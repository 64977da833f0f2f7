"""What a run should have learned from, told from its environments' own log.

One environment and one episode at a time, in plain Python: no array here has a row that
is no transition, so that none can be mixed up with one that is.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trpo.common.random_streams import Purpose, RandomStream, episode_seed
from trpo.config.run import TrainConfig
from trpo.data.rollout import Rollout


VARIANCE_EPSILON = 1e-8
ENDS, CUT, BAD, LOST = "ends", "cut", "bad", "lost"


class Episode(NamedTuple):
    """One episode, as its environment knows it; lists grow as it is played.

    Attributes:
        fate: how it ends: `ENDS`, `CUT`, `BAD` or `LOST`.
        length: steps until then.
        obs: seen so far, the first one included.
        actions: taken so far, as sent.
        rewards: of the steps so far.
        costs: likewise.
        masks: of the options at each observation.
    """

    fate: str
    length: int
    obs: list[np.ndarray]
    actions: list[Any]
    rewards: list[float]
    costs: list[float]
    masks: list[np.ndarray]

    @property
    def success(self) -> bool:
        """What its last step says."""
        return self.length % 3 == 0


class Step(NamedTuple):
    """A step of an environment, or a row that is none.

    Attributes:
        episode: its episode; None of a row that only resets.
        index: of the step in its episode.
    """

    episode: Episode | None
    index: int = 0

    @property
    def fate(self) -> str:
        """How the episode ends with it; nothing if it goes on."""
        last = self.episode is not None and self.index + 1 == self.episode.length
        return self.episode.fate if last else ""  # pyright: ignore


class Kept(NamedTuple):
    """A step that is learned from.

    Attributes:
        t: its row in the rollout.
        env: its environment.
        step: the step.
        following: whether the next row, if it is in this rollout, goes on from it.
    """

    t: int
    env: int
    step: Step
    following: bool


class Expected(NamedTuple):
    """What an update should have been given, and what should be known after it.

    Samples are in the order of rows, and of environments in one row.

    Attributes:
        kept: the samples.
        dropped: steps that were left out, as their episode had bad numbers.
        lost: environments that were replaced.
        ended: (return, length, cost, success) of each finished episode, in that order.
    """

    kept: list[Kept]
    dropped: int
    lost: int
    ended: list[tuple[float, int, float, bool]]


def timelines(
    log: Mapping[int, Episode], config: TrainConfig, rows_between: int
) -> list[list[Step]]:
    """Each environment's rows, by the seeds that its episodes should have.

    Args:
        log: Seed -> its episode.
        config: Of the run.
        rows_between: Rows that only reset, after an episode that has ended.
    """
    stream = RandomStream(config.seed, Purpose.TRAINING_RESET)
    lines = []
    for env in range(config.num_envs):
        line: list[Step] = []
        number = 0
        while True:
            seed = episode_seed(stream, env_index=env, episode=number)
            episode = log.get(seed)
            if episode is None:
                break
            line += [Step(episode, index) for index in range(len(episode.actions))]
            if line and line[-1].fate in (ENDS, CUT):
                line += [Step(None)] * rows_between
            number += 1
        lines.append(line)
    return lines


def expected(
    lines: Sequence[Sequence[Step]], config: TrainConfig, update: int
) -> Expected:
    """What update number `update`, from 0, is made of."""
    first = update * config.rollout_steps
    kept, dropped, lost, ended = [], 0, 0, []
    for env, line in enumerate(lines):
        part = line[first : first + config.rollout_steps]
        assert len(part) == config.rollout_steps, "fewer steps than the run has rows"
        bad = [id(step.episode) for step in part if step.fate == BAD]
        for t, step in enumerate(part):
            episode = step.episode
            if episode is None or step.fate == LOST:
                lost += episode is not None
            elif id(episode) in bad:
                dropped += 1
            else:
                after = part[t + 1] if t + 1 < len(part) else None
                goes_on = after is not None and after.episode is episode
                kept.append(Kept(t, env, step, goes_on and after.fate != LOST))  # pyright: ignore
            if step.fate in (ENDS, CUT):
                assert episode is not None
                sums = sum(episode.rewards), episode.length, sum(episode.costs)
                ended.append((t, env, (*sums, episode.success)))
    return Expected(
        sorted(kept, key=lambda sample: sample[:2]),
        dropped,
        lost,
        [episode for *_, episode in sorted(ended)],
    )


def next_obs(sample: Kept) -> np.ndarray:
    """What a step led to."""
    assert sample.step.episode is not None
    return sample.step.episode.obs[sample.step.index + 1]


class Estimates(NamedTuple):
    """Advantages, and the critic's targets, of the samples in their order."""

    advantages: np.ndarray
    returns: np.ndarray


def estimates(
    kept: Sequence[Kept],
    rewards: Mapping[tuple[int, int], float],
    values: Callable[[Kept], float],
    next_values: Callable[[Kept], float],
    gamma: float,
    gae_lambda: float,
) -> Estimates:
    """Generalised advantages, from the last step of each segment to its first.

    Args:
        kept: The samples.
        rewards: Of each row and environment, scaled if at all.
        values: Of a sample's observation.
        next_values: Of what it led to.
        gamma: Discount.
        gae_lambda: Weight.
    """
    advantages: dict[tuple[int, int], float] = {}
    for sample in reversed(kept):
        at = sample.t, sample.env
        worth = 0.0 if sample.step.fate == ENDS else next_values(sample)
        advantage = rewards[at] + gamma * worth - values(sample)
        if sample.following:
            after = advantages[sample.t + 1, sample.env]
            advantage += gamma * gae_lambda * after
        advantages[at] = advantage
    ordered = np.array([advantages[s.t, s.env] for s in kept])
    return Estimates(ordered, ordered + [values(sample) for sample in kept])


class Scale:
    """Divisor of rewards or costs: their discounted sums' standard deviation.

    Args:
        gamma: Discount.
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._sums: list[float] = []
        self.under_way: dict[int, tuple[Episode, float]] = {}

    def add(self, kept: Sequence[Kept], numbers: str) -> float:
        """Take over a rollout's "rewards" or "costs"; the divisor."""
        for sample in kept:
            episode = sample.step.episode
            assert episode is not None
            before, carried = self.under_way.get(sample.env, (None, 0.0))
            carried = carried if before is episode else 0.0
            number = getattr(episode, numbers)[sample.step.index]
            now = self._gamma * carried + number
            self._sums.append(now)
            self.under_way[sample.env] = (episode, now)
        return math.sqrt(np.var(self._sums) + VARIANCE_EPSILON)


def raw(kept: Sequence[Kept], numbers: str, scale: float) -> dict:
    """Row and environment -> "rewards" or "costs" of the samples, over `scale`."""
    return {
        (s.t, s.env): getattr(s.step.episode, numbers)[s.step.index] / scale
        for s in kept
    }


def open_episodes(
    lines: Sequence[Sequence[Step]], rows: int
) -> Iterator[tuple[int, float, int, float]]:
    """Number, return, length and cost of each environment's episode after some rows."""
    for line in lines:
        number, part = 0, []
        for step in line[:rows]:
            if step.fate:
                number, part = number + 1, []
            elif step.episode is not None:
                part.append(step)
        sums = (
            sum(getattr(s.episode, name)[s.index] for s in part)
            for name in ("rewards", "costs")
        )
        gain, cost = sums
        yield number, gain, len(part), cost


def values_of(
    agent: Any, rollout: Rollout, value: str, samples: Sequence[Kept]
) -> tuple[Callable[[Kept], float], Callable[[Kept], float]]:
    """The critic's values of a rollout's samples, and of what they led to.

    Asked of the agent anew; of one with a memory they are the rollout's own.
    """
    if rollout.memory is not None:
        return (
            lambda s: float(rollout.values[s.t, s.env]),
            lambda s: float(rollout.next_values[s.t, s.env]),
        )
    seen = [s.step.episode.obs[s.step.index] for s in samples]  # pyright: ignore
    led_to = [next_obs(s) for s in samples]
    ask = getattr(agent, value)
    before, after = (ask(np.array(obs))[:, 0] for obs in (seen, led_to))
    places = {(s.t, s.env): i for i, s in enumerate(samples)}
    return (
        lambda s: float(before[places[s.t, s.env]]),
        lambda s: float(after[places[s.t, s.env]]),
    )
