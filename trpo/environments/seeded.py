"""One environment whose episodes are seeded, numbered and can be replayed."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from trpo.common.random_streams import Purpose, RandomStream, episode_seed
from trpo.environments.action_masks import INFO, MaskSource
from trpo.environments.contract import (
    COST,
    RESET,
    STEP,
    UNRESTORED,
    CountError,
    copied,
    flag,
    number,
    unpacked,
)
from trpo.environments.environment_worker import (
    EnvironmentContractError,
    EnvironmentWorkerError,
)
from trpo.environments.lasting_state import PROBED_ENVIRONMENTS, lasting_values
from trpo.spaces.observations import ObservationReader


OWN_WRAPPERS = (gymnasium.wrappers.TimeLimit, gymnasium.wrappers.OrderEnforcing)
RESTORE = "restore_episode"
"""Reset option: {index in the vector: (episode number, actions so far)}."""


class SeededEpisodes(gymnasium.Wrapper):
    """Gives episode k of environment i the seed (run seed, i, k).

    Every reset is so a function of three integers, also those that a vector
    environment makes by itself. An open episode can be restored by replaying its
    actions, which is exact in any environment that draws its randomness from its seed.

    Whatever the environment returns is checked here, and observations become flat
    arrays.

    Args:
        env: One environment.
        seed: Seed of the run.
        env_index: Index of the environment among all of the run.
        purpose: Training or evaluation; their episodes differ.
        first: Index of the first that is in its vector; other processes may have some.
        episodes: Of an evaluation: the first episodes of the environments of these
            indices are played in turn; then it rests, and a step does nothing.
        omitted: Keys of its observations that are left out.
        masks: Where its action masks are.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        seed: int,
        env_index: int,
        purpose: Purpose,
        first: int = 0,
        episodes: Sequence[int] | None = None,
        omitted: Sequence[str] = (),
        masks: str = INFO,
    ) -> None:
        super().__init__(_counted(env))
        self._stream = RandomStream(seed, purpose)
        self._env_index, self._in_vector = env_index, env_index - first
        self._episode, self._steps, self._episodes = 0, 0, episodes
        self._masks = MaskSource(env, masks, omitted, warns=self._in_vector == 0)
        self._read = ObservationReader(env.observation_space, self._masks.omitted)
        self.observation_space = self._read.space
        self._first_info: dict[str, Any] = {}
        self._has_masks = masks != INFO
        self._probed = env_index < PROBED_ENVIRONMENTS
        self._made = lasting_values(env) if self._probed else {}

    @property
    def time_limit(self) -> int | None:
        """Steps after which the environment itself ends an episode, if it says so."""
        one = self.env
        while isinstance(one, gymnasium.Wrapper):
            if isinstance(one, gymnasium.wrappers.TimeLimit):
                return one._max_episode_steps
            one = one.env
        return None

    @property
    def _rests(self) -> bool:
        return self._episodes is not None and self._episode > len(self._episodes)

    def lasting(self, changed: bool) -> dict[str, str]:
        """Digests of what the environment holds now, see `lasting_values`.

        Args:
            changed: Leave out what is as it was made: names, paths and the like.
        """
        values = lasting_values(self.env) if self._probed else {}
        first_values = self._made if changed else {}
        return {
            name: value
            for name, value in values.items()
            if first_values.get(name) != value
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the next episode, or restore the one in `options[RESTORE]`.

        Where that fails, its infos have `UNRESTORED`, and the episode begins anew.

        Raises:
            EnvironmentContractError: what it returned is no observation of its space
                and a dict of infos.
            EnvironmentWorkerError: the environment raised.
        """
        options = dict(options or {})
        restore = options.pop(RESTORE, {}).get(self._in_vector)
        if restore is not None:
            self._episode = restore[0]
        episode, self._episode = self._episode, self._episode + 1
        if self._rests:
            return self._at_rest()
        if seed is None:
            seed = self._seed_of(episode)
        self._steps = 0
        more: dict[str, Any] = {}

        try:
            result = self.env.reset(seed=seed, options=options or None)
            if restore is not None and len(restore[1]):
                replayed = self._replayed(restore[1])
                if replayed is None:
                    # It is random beyond its seed, or the actions are not its own.
                    more = {UNRESTORED: True}
                    result = self.env.reset(seed=seed, options=options or None)
                else:
                    result, self._steps = replayed, len(restore[1])
        except BaseException as error:
            raise self._failure(RESET, error) from error
        try:
            raw, info = unpacked(RESET, result)
            obs, self._first_info = self._read(raw), self._infos(raw, info) | more
        except ValueError as error:
            raise self._breach(RESET, error) from error
        return obs, self._first_info

    def _at_rest(self) -> tuple[Any, dict[str, Any]]:
        """Nothing to see, and what could be done at the beginning."""
        space: Any = self.observation_space
        return np.zeros(space.shape, space.dtype), self._first_info

    def _seed_of(self, episode: int) -> int:
        index = self._env_index
        if self._episodes is not None:
            index, episode = self._episodes[episode], 0
        return episode_seed(self._stream, env_index=index, episode=episode)

    def _replayed(self, actions: Sequence[Any]) -> tuple[Any, dict[str, Any]] | None:
        """Observation and infos after these actions; None if one fails or ends it."""
        obs, info = None, {}
        try:
            for action in actions:
                # A copy: it may write to its action, which goes into a checkpoint.
                result = self.env.step(copied(action))
                obs, _, terminated, truncated, info = unpacked(STEP, result)
                if terminated or truncated:
                    return None
        except (Exception, SystemExit):
            return None
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the environment.

        Raises:
            EnvironmentContractError: what it returned is no observation of its space,
                a number, two flags and a dict of infos.
            EnvironmentWorkerError: the environment raised.
        """
        if self._rests:
            obs, info = self._at_rest()
            return obs, 0.0, False, False, {**info, COST: 0.0}
        self._steps += 1
        try:
            result = self.env.step(action)
        except BaseException as error:
            raise self._failure(STEP, error) from error
        try:
            raw, reward, terminated, truncated, info = unpacked(STEP, result)
            # What is a number or a flag already needs no call.
            if type(reward) is not float:
                reward = number("reward", reward)
            if type(terminated) is not bool or type(truncated) is not bool:
                terminated = flag("terminated", terminated)
                truncated = flag("truncated", truncated)
            obs = self._read(raw)
            if self._has_masks or type(info) is not dict:
                info = self._infos(raw, info)
        except ValueError as error:
            raise self._breach(STEP, error) from error
        if terminated or truncated:
            # A vector keeps it while it resets, and an environment that reuses its
            # buffer would write the next episode over the final observation.
            obs = np.array(obs)
        return obs, reward, terminated, truncated, info

    def _infos(self, obs: Any, info: Mapping[str, Any]) -> dict[str, Any]:
        """The infos, with the mask wherever it is."""
        return self._masks.added(info if type(info) is dict else {**info}, obs)

    def _failure(self, phase: str, error: BaseException) -> BaseException:
        """The error that names this environment, and its step; Ctrl-C is none of it."""
        if isinstance(error, KeyboardInterrupt):
            return error
        if isinstance(error, CountError):
            return self._breach(phase, error)
        where = self._env_id, self._steps or None
        return EnvironmentWorkerError.of(self._env_index, phase, error, *where)

    def _breach(self, phase: str, error: ValueError) -> EnvironmentContractError:
        """Likewise, of a value that it returned."""
        where = self._env_id, self._steps or None
        return EnvironmentContractError(self._env_index, phase, str(error), "", *where)

    @property
    def _env_id(self) -> str:
        spec = self.unwrapped.spec
        return "" if spec is None else spec.id


class _Counted(gymnasium.Wrapper):
    """Checks how many values there are where Gymnasium's wrappers would unpack them."""

    def reset(self, **options: Any) -> tuple[Any, ...]:
        return unpacked(RESET, self.env.reset(**options))

    def step(self, action: Any) -> tuple[Any, ...]:
        return unpacked(STEP, self.env.step(action))


def _counted(env: gymnasium.Env) -> gymnasium.Env:
    """`env`, with that beneath the wrappers that Gymnasium itself has put round it."""
    outer, inner = None, env
    while isinstance(inner, gymnasium.Wrapper) and type(inner) in OWN_WRAPPERS:
        outer, inner = inner, inner.env
    if outer is not None and not isinstance(inner, _Counted):
        outer.env = _Counted(inner)
    return env
