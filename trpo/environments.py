"""Vector environments whose episodes are seeded, numbered and can be replayed."""

import difflib
import functools
import multiprocessing
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

from trpo.lean_environment import LeanVectorEnv
from trpo.noise import Purpose, RandomStream, episode_seed
from trpo.observations import flattened


RESTORE = "restore_episode"
"""Reset option: {environment index: (episode number, actions so far)}."""


class UnknownEnvironmentError(ValueError):
    """No environment has this id, or what it needs is not installed."""


class SeededEpisodes(gymnasium.Wrapper):
    """Gives episode k of environment i the seed (run seed, i, k).

    Every reset is so a function of three integers, also those that a vector
    environment makes by itself. An open episode can be restored by replaying its
    actions, which is exact in any environment that draws its randomness from its seed.

    Args:
        env: One environment.
        seed: Seed of the run.
        env_index: Index of the environment in its vector.
        purpose: Training or evaluation; their episodes differ.
    """

    def __init__(
        self, env: gymnasium.Env, seed: int, env_index: int, purpose: Purpose
    ) -> None:
        super().__init__(env)
        self._stream = RandomStream(seed, purpose)
        self._env_index = env_index
        self._episode = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the next episode, or restore the one in `options[RESTORE]`."""
        options = dict(options or {})
        restore = options.pop(RESTORE, {}).get(self._env_index)
        if restore is not None:
            self._episode = restore[0]
        if seed is None:
            seed = episode_seed(
                self._stream, env_index=self._env_index, episode=self._episode
            )
        self._episode += 1
        obs, info = self.env.reset(seed=seed, options=options or None)
        for action in () if restore is None else restore[1]:
            obs, _, _, _, info = self.env.step(action)
        return obs, info

    def step(
        self, action: Any
    ) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step of the environment; its errors are noted with its index."""
        try:
            obs, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            error.add_note(f"Raised by environment {self._env_index}.")
            raise
        if terminated or truncated:
            # Gymnasium keeps a reference while it resets, and an environment that
            # reuses its buffer would write the next episode over the final observation.
            obs = np.array(obs)
        return obs, reward, terminated, truncated, info


def make_environment(
    env_id: str,
    *,
    seed: int,
    env_index: int = 0,
    purpose: Purpose = Purpose.TRAINING_RESET,
    render_mode: str | None = None,
) -> gymnasium.Env:
    """One environment with seeded episodes, its observations arrays of numbers.

    Discrete observations become one-hot; those of a Dict or Tuple are joined, images
    among them, by `gymnasium.wrappers.FlattenObservation`. Any other is left as it is.

    Raises:
        UnknownEnvironmentError: the id is unknown (close matches are named) or a
            package is missing (the extra to install is named).
    """
    try:
        # Not every environment takes a render mode, not even None.
        options: dict[str, Any] = (
            {} if render_mode is None else {"render_mode": render_mode}
        )
        env = gymnasium.make(env_id, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UnknownEnvironmentError(
            f"`env_id`: {env_id!r} needs a package that is not installed ({error}) "
            f'Install it, for MuJoCo by: pip install "trpo[mujoco]".'
        ) from error
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.Error) as error:
        raise UnknownEnvironmentError(_unknown(env_id, error)) from error
    except ModuleNotFoundError as error:
        raise UnknownEnvironmentError(
            f"`env_id`: {env_id!r} needs the module {error.name!r}; install the "
            "package that registers this environment."
        ) from error
    space = env.observation_space
    flat = flattened(space)
    if flat is not space:
        env = gymnasium.wrappers.FlattenObservation(env)
        env.observation_space = flat
    return SeededEpisodes(env, seed, env_index, purpose)


def _unknown(env_id: str, error: Exception) -> str:
    known = list(gymnasium.registry)
    close = difflib.get_close_matches(env_id, known, n=3, cutoff=0.5)
    lowered = {name.lower(): name for name in known}
    close += [
        lowered[name]
        for name in difflib.get_close_matches(env_id.lower(), lowered, n=3)
        if lowered[name] not in close
    ]
    hint = f"Did you mean {', '.join(close)}?" if close else "Nothing is called alike."
    return (
        f"`env_id`: expected a registered Gymnasium environment, got {env_id!r} "
        f"({str(error).rstrip('.')}). {hint} MuJoCo environments need: pip install "
        '"trpo[mujoco]".'
    )


def make_vector_environment(
    env_id: str,
    num_envs: int,
    *,
    seed: int,
    vectorization: str = "sync",
    purpose: Purpose = Purpose.TRAINING_RESET,
) -> VectorEnv:
    """`num_envs` environments with seeded episodes, resetting in the same step.

    Args:
        env_id: Gymnasium id.
        num_envs: Environments.
        seed: Seed of the run.
        vectorization: "sync", in this process, with final observations and action
            masks as only infos; or "async", each in its own. Workers are never forked
            from this process: JAX's threads would deadlock in them.
        purpose: Training or evaluation.

    Raises:
        UnknownEnvironmentError: see `make_environment`.
    """
    makers = [
        functools.partial(
            make_environment, env_id, seed=seed, env_index=i, purpose=purpose
        )
        for i in range(num_envs)
    ]
    if vectorization == "sync":
        return LeanVectorEnv(makers)
    makers[0]().close()  # A worker that can't construct would hide the reason.
    methods = multiprocessing.get_all_start_methods()
    return AsyncVectorEnv(
        makers,
        autoreset_mode=AutoresetMode.SAME_STEP,
        context="forkserver" if "forkserver" in methods else "spawn",
    )


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """How a vector environment starts the episode after one that has ended.

    Raises:
        ValueError: it does not say.
    """
    mode = env.metadata.get("autoreset_mode")
    try:
        return mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
    except ValueError as error:
        raise ValueError(
            "`env`: expected a vector environment whose metadata['autoreset_mode'] is "
            f"one of {[m.value for m in AutoresetMode]}, got {mode!r}."
        ) from error


def final_observations(
    obs: np.ndarray, done: np.ndarray, infos: dict[str, Any]
) -> np.ndarray:
    """`obs` with the rows of ended episodes replaced by their last observation."""
    final = obs.copy()
    for i in np.flatnonzero(done):
        final[i] = infos["final_obs"][i]
    return final
