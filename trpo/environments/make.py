"""Vector environments whose episodes are seeded, numbered and can be replayed."""

import difflib
import functools
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from trpo.common.closing import closing
from trpo.common.random_streams import Purpose
from trpo.common.user_modules import import_modules
from trpo.environments.environment_worker import CONSTRUCTOR, EnvironmentWorkerError
from trpo.environments.envpool_vector import PooledVectorEnv
from trpo.environments.ids import register_physics
from trpo.environments.ray_workers import RayWorkers
from trpo.environments.seeded import SeededEpisodes
from trpo.environments.sync_vector import LeanVectorEnv
from trpo.environments.worker_vector import WorkerVectorEnv
from trpo.spaces.observations import flattened


class UnknownEnvironmentError(ValueError):
    """No environment has this id, or what it needs is not installed."""


def make_environment(
    env_id: str,
    *,
    seed: int,
    env_index: int = 0,
    first: int = 0,
    purpose: Purpose = Purpose.TRAINING_RESET,
    render_mode: str | None = None,
    modules: Sequence[str] = (),
) -> gymnasium.Env:
    """One environment with seeded episodes, its observations arrays of numbers.

    Discrete observations become one-hot; those of a Dict or Tuple are joined, images
    among them, by `gymnasium.wrappers.FlattenObservation`. Any other is left as it is.
    `modules` are imported first, see `trpo.common.user_modules.import_modules`;
    `env_index` and `first` are those of `SeededEpisodes`.

    Raises:
        UserModuleError: one of `modules` can't be imported.
        UnknownEnvironmentError: the id is unknown (close matches are named) or a
            package is missing (the extra to install is named).
        EnvironmentWorkerError: its constructor raised.
    """
    import_modules(modules)
    try:
        # Not every environment takes a render mode, not even None.
        options: dict[str, Any] = (
            {} if render_mode is None else {"render_mode": render_mode}
        )
        _require_module_name(env_id)
        register_physics(env_id)
        env = gymnasium.make(env_id, **options)
    except UnknownEnvironmentError:
        raise
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
            "package that registers this environment, or name its file: --module PATH."
        ) from error
    except Exception as error:
        raise EnvironmentWorkerError.of(env_index, CONSTRUCTOR, error) from error
    space = env.observation_space
    flat = flattened(space)
    if flat is not space:
        env = gymnasium.wrappers.FlattenObservation(env)
        env.observation_space = flat
    return SeededEpisodes(env, seed, env_index, purpose, first)


def _require_module_name(env_id: str) -> None:
    """Refuse a path in place of the module that registers an environment.

    Gymnasium imports what is before a colon; an id may be a stranger's.

    Raises:
        UnknownEnvironmentError: it is no dotted name.
    """
    module, colon, _ = env_id.partition(":")
    if colon and not all(part.isidentifier() for part in module.split(".")):
        raise UnknownEnvironmentError(
            f"`env_id`: expected the dotted name of a module before the colon, got "
            f"{module!r} in {env_id!r}."
        )


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
    timeout: float = 60.0,
    max_restarts: int = 0,
    share: slice | None = None,
    modules: Sequence[str] = (),
) -> VectorEnv:
    """`num_envs` environments with seeded episodes, resetting in the same step.

    Args:
        env_id: Gymnasium id.
        num_envs: Environments.
        seed: Seed of the run.
        vectorization: "sync", in this process, with final observations and action
            masks as only infos; "async", each in its own; "ray", each in an actor of
            a Ray cluster, see `ray_workers`; or "envpool", in threads, see
            `envpool_vector`.
        purpose: Training or evaluation.
        timeout: Of workers: seconds that an environment has to answer.
        max_restarts: Of workers: environments that may fail and be replaced, see
            `trpo.environments.worker_vector.WorkerVectorEnv`.
        share: Which of them are made here, if other processes have the others.
        modules: Imported first, in all processes that make environments.

    Raises:
        UserModuleError: see `make_environment`.
        UnknownEnvironmentError: likewise.
        EnvironmentWorkerError: a constructor raised, or did not return in time.
        ValueError: "ray" without Ray, or without the cluster; "envpool" without
            EnvPool, or for an environment that it has not.
    """
    indices = range(num_envs)[share or slice(None)]
    import_modules(modules)
    make = functools.partial(
        make_environment, env_id, seed=seed, first=indices.start, purpose=purpose,
        modules=modules,
    )  # fmt: skip
    if vectorization == "envpool":
        like = make()
        with closing(like.close):
            return PooledVectorEnv(env_id, like, indices, seed=seed, purpose=purpose)
    makers = [functools.partial(make, env_index=i) for i in indices]
    if vectorization == "sync":
        return LeanVectorEnv(makers)
    workers = RayWorkers(makers) if vectorization == "ray" else None
    limits: dict[str, Any] = {"timeout": timeout, "max_restarts": max_restarts}
    try:
        return WorkerVectorEnv(makers, workers, **limits)
    except EnvironmentWorkerError as error:
        kind, _, message = error.reason.partition(": ")
        if kind.endswith(UnknownEnvironmentError.__name__):
            raise UnknownEnvironmentError(f"{message}.") from error
        raise


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
