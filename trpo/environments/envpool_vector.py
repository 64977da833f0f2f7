"""Environments that EnvPool steps, in threads of C++ and all of a vector at once.

EnvPool is an optional dependency (`pip install "trpo[envpool]"`). Its environments are
Gymnasium's, written again: the same dynamics and rewards, but another generator of
random numbers, so that the same seed starts other episodes.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from trpo.common.machine import available_cores
from trpo.common.random_streams import Purpose, RandomStream, episode_seed
from trpo.environments.seeded import RESTORE


class PooledVectorEnv(VectorEnv):
    """Environments of one EnvPool, resetting in the same step.

    An environment of EnvPool is seeded as it is made, once for all of its episodes, so
    that an open episode can't be restored: a run that is resumed goes on with new ones,
    whose seeds follow from their numbers.

    Args:
        env_id: Gymnasium id, which EnvPool has too.
        like: Gymnasium's environment of this id; not stepped.
        indices: Of these environments among all of the run, for their seeds.
        seed: Seed of the run.
        purpose: Training or evaluation.

    Raises:
        ValueError: EnvPool is not installed, has no such environment, or one of other
            spaces.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        env_id: str,
        like: gymnasium.Env,
        indices: Sequence[int],
        *,
        seed: int,
        purpose: Purpose = Purpose.TRAINING_RESET,
    ) -> None:
        self._envpool = _required(env_id)
        self._env_id, self._indices = env_id, tuple(indices)
        self._stream = RandomStream(seed, purpose)
        self.num_envs = len(self._indices)
        self._threads = min(available_cores(), self.num_envs)
        self.single_observation_space: Space[Any] = like.observation_space
        self.single_action_space: Space[Any] = like.action_space
        size = self.num_envs
        self.observation_space: Space[Any] = batch_space(like.observation_space, size)
        self.action_space: Space[Any] = batch_space(like.action_space, size)
        self._start([0] * self.num_envs)

    def _start(self, episodes: Sequence[int]) -> None:
        """A new pool, whose environments begin with these episodes."""
        seeds = [
            episode_seed(self._stream, env_index=index, episode=episode)
            for index, episode in zip(self._indices, episodes, strict=True)
        ]
        self._pool = self._envpool.make(
            self._env_id,
            env_type="gymnasium",
            num_envs=self.num_envs,
            num_threads=self._threads,
            seed=seeds,
        )
        self._require_same_spaces()

    def _require_same_spaces(self) -> None:
        with warnings.catch_warnings():
            # It makes its spaces when they are first asked for, some with a warning:
            # of bounds in float64 for a space of float32.
            warnings.simplefilter("ignore", UserWarning)
            pool = self._pool.observation_space, self._pool.action_space
        registered = self.single_observation_space, self.single_action_space
        for name, pool_space, space in zip(
            ("observations", "actions"), pool, registered, strict=True
        ):
            # Bounds may differ in dtype, as rewards do; a Discrete has its number `n`.
            alike = type(pool_space) is type(space) and pool_space.shape == space.shape
            alike = alike and getattr(pool_space, "n", 0) == getattr(space, "n", 0)
            if not alike:
                raise ValueError(
                    f"`vectorization`: expected EnvPool's {name} of {self._env_id} to "
                    f"be Gymnasium's, {space}, got {pool_space}. Use 'sync' or 'async'."
                )

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset all environments, or those of `options["reset_mask"]` [B].

        With `options[RESTORE]`, {index: (episode, actions)}, all of them start again,
        at these episodes' seeds; the actions are not replayed. `seed` is ignored.
        """
        options = options or {}
        if (restore := options.get(RESTORE)) is not None:
            # Indices of a restored vector count from its own first environment.
            self._start([restore[i][0] for i in range(self.num_envs)])
        mask = options.get("reset_mask")
        if mask is None or np.all(mask):
            self._obs = np.array(self._pool.reset()[0])
        else:
            self._reset(np.asarray(mask))
        return self._obs, {}

    def _reset(self, mask: np.ndarray) -> None:
        chosen = np.flatnonzero(mask).astype(np.int32)
        fresh, infos = self._pool.reset(chosen)
        self._obs = self._obs.copy()
        self._obs[infos["env_id"]] = fresh

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any]:  # pyright: ignore
        """One step of all environments; those that end are reset."""
        obs, rewards, terminated, truncated, _ = self._pool.step(np.asarray(actions))
        self._obs = np.array(obs)
        done = terminated | truncated
        infos: dict[str, Any] = {}
        if done.any():
            infos["final_obs"] = self._obs
            self._reset(done)
        return self._obs, rewards, terminated, truncated, infos

    def close_extras(self, **_: Any) -> None:
        """End the pool's threads."""
        self._pool.close()


def _required(env_id: str) -> Any:
    """The module `envpool`.

    Raises:
        ValueError: it is not installed, or does not know `env_id`.
    """
    if importlib.util.find_spec("envpool") is None:
        raise ValueError(
            "`vectorization`: expected EnvPool to be installed, found none: "
            'pip install "trpo[envpool]".'
        )
    envpool = importlib.import_module("envpool")
    if env_id not in envpool.list_all_envs():
        raise ValueError(
            f"`vectorization`: expected an environment that EnvPool has, got "
            f"{env_id!r}. Use 'sync' or 'async'."
        )
    return envpool
