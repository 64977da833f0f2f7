"""Environments whose episodes are written down, in every kind of vector.

What an episode is, and how it ends, follows from its seed alone; what was seen and done
is kept under that seed. So whoever knows the seeds that a run should have had can tell
what it should have learned from (`reference/training.py`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from parity_tests.reference.training import BAD, CUT, ENDS, LOST, Episode
from trpo.environments.environment_worker import (
    EnvironmentWorkerError,
    answer,
    known_of,
)
from trpo.environments.make import make_environment, make_vector_environment
from trpo.environments.process_workers import Answer
from trpo.environments.worker_vector import WorkerVectorEnv


OBS_DIM, OPTIONS, START, LONGEST = 3, 3, 4, 7
# What else may become of an episode than that it ends or is cut.
FATES = {"none": (), "bad": (BAD,), "lost": (LOST,)}


class Scripted(gymnasium.Env):
    """Random episodes of 2 to 7 steps.

    Args:
        log: Seed -> its episode.
        masked: Whether actions are choices, with masks.
        fates: That episodes may have beside `ENDS` and `CUT`.
        spoilt: What may be bad of a bad episode's last step.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float64)

    def __init__(
        self,
        log: dict[int, Episode],
        masked: bool = False,
        fates: Sequence[str] = (),
        spoilt: Sequence[str] = ("obs", "reward"),
    ) -> None:
        self._log, self._masked, self._fates = log, masked, (ENDS, CUT, *fates)
        self._spoilt = spoilt
        # Narrow enough that some samples are clipped.
        self.action_space = gymnasium.spaces.Box(-0.5, 0.75, (2,), np.float64)
        if masked:
            self.action_space = gymnasium.spaces.Discrete(OPTIONS, start=START)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        assert seed is not None, "a reset without a seed"
        self._random = np.random.default_rng(seed)
        fate = self._fates[self._random.integers(len(self._fates))]
        length = int(self._random.integers(2, LONGEST + 1))
        self._episode = self._log[seed] = Episode(fate, length, [], [], [], [], [])
        return self._seen(), self._info()

    def step(self, action: Any) -> tuple:
        episode = self._episode
        if self._masked:
            assert episode.masks[-1][int(action) - START], "a forbidden action"
        else:
            assert self.action_space.contains(action), "not clipped"
        episode.actions.append(np.array(action))
        last = len(episode.actions) == episode.length
        if last and episode.fate == LOST:
            raise RuntimeError("as its seed says")
        reward = float(self._random.normal() + 0.3 * np.sum(action))
        cost = float(self._random.uniform(0.0, 2.0) + 0.1 * np.sum(action))
        obs = self._seen()
        if last and episode.fate == BAD:
            spoilt = self._spoilt[episode.length % len(self._spoilt)]
            reward = np.nan if spoilt == "reward" else reward
            cost = np.inf if spoilt == "cost" else cost
            obs[1] = np.nan if spoilt == "obs" else obs[1]
        episode.rewards.append(reward)
        episode.costs.append(cost)
        info = self._info() | {"cost": cost}
        if last:
            info["is_success"] = episode.success
        # Some bad ones end with it, others would go on.
        bad_end = episode.fate == BAD and episode.length % 4 < 2
        ended = last and (episode.fate == ENDS or bad_end)
        return obs, reward, ended, last and episode.fate == CUT, info

    def _seen(self) -> np.ndarray:
        episode = self._episode
        obs = self._random.normal([1.0, -2.0, 0.0], [1.0, 3.0, 0.5])
        episode.obs.append(obs)
        mask = self._random.random(OPTIONS) < 0.6
        mask[self._random.integers(OPTIONS)] = True
        episode.masks.append(mask)
        return obs.copy()

    def _info(self) -> dict[str, Any]:
        if not self._masked:
            return {}
        return {"action_mask": self._episode.masks[-1].astype(np.int8)}


class WorkersHere:
    """Environments of this process as workers, so that one may fail and be replaced.

    Args:
        makers: Make one environment each.
    """

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env]]) -> None:
        self._makers, self._envs = makers, dict[int, Any]()
        self._answers = list[Answer]()

    def start(self, index: int) -> None:
        """See `trpo.environments.process_workers.Workers`, as all others."""
        env = self._envs[index] = self._makers[index]()
        self._answers.append(Answer(index, 0, None, known_of(env)))

    def send(self, index: int, ticket: int, command: str, argument: Any) -> bool:
        if index not in self._envs:
            return False
        try:
            found = Answer(
                index, ticket, None, answer(self._envs[index], command, argument)
            )
        except Exception as error:
            failure = EnvironmentWorkerError.of(index, command, error)
            found = Answer(index, ticket, failure, None)
            del self._envs[index]
        self._answers.append(found)
        return True

    def receive(self, seconds: float) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers

    def end_of(self, index: int) -> str:
        return "has ended"

    def living(self) -> list[int]:
        return list(self._envs)

    def end(self, index: int) -> None:
        self._envs.pop(index, None)

    def close(self) -> None:
        self._envs.clear()


def vector_maker(mode: AutoresetMode, lost: bool) -> Callable[..., VectorEnv]:
    """What makes a trainer's vector, in place of `make_vector_environment`.

    Args:
        mode: How it begins the next episodes.
        lost: Whether environments fail, and are replaced.
    """

    def make(
        env: Any, num_envs: int, *, seed: int, share: slice | None = None, **_: Any
    ) -> VectorEnv:
        indices = range(num_envs)[share or slice(None)]
        maker = functools.partial(make_environment, env, seed=seed, first=indices.start)
        makers = [functools.partial(maker, env_index=i) for i in indices]
        if lost:
            return WorkerVectorEnv(makers, WorkersHere(makers), max_restarts=10**6)
        if mode == AutoresetMode.SAME_STEP:
            return make_vector_environment(env, num_envs, seed=seed, share=share)
        return SyncVectorEnv(makers, autoreset_mode=mode)

    return make
