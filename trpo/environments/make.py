"""Vector environments whose episodes are seeded, numbered and can be replayed."""

import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import VectorEnv

from trpo.common.closing import closing, noting_failure
from trpo.common.random_streams import Purpose
from trpo.common.user_modules import import_modules
from trpo.common.validation import shown
from trpo.environments.environment_worker import CONSTRUCTOR, EnvironmentWorkerError
from trpo.environments.envpool_vector import PooledVectorEnv
from trpo.environments.ids import UnknownEnvironmentError, registered, unknown
from trpo.environments.process_workers import Maker
from trpo.environments.ray_workers import RayWorkers
from trpo.environments.seeded import SeededEpisodes
from trpo.environments.source import EnvironmentSource
from trpo.environments.sync_vector import LeanVectorEnv
from trpo.environments.worker_vector import WorkerVectorEnv


Makes = str | EnvironmentSource | gymnasium.Env | Callable[..., gymnasium.Env]
"""What environments are made by: Gymnasium's id, or a function of yours."""


def make_environment(
    env: Makes,
    *,
    seed: int,
    env_index: int = 0,
    first: int = 0,
    purpose: Purpose = Purpose.TRAINING_RESET,
    render_mode: str | None = None,
    episodes: Sequence[int] | None = None,
) -> gymnasium.Env:
    """One environment with seeded episodes, its observations arrays of numbers.

    Discrete observations become one-hot; those of a Dict or Tuple are joined, images
    among them, as by `gymnasium.wrappers.FlattenObservation`. Any other is left as it
    is. `env_index`, `first` and `episodes` are those of `SeededEpisodes`.

    Args:
        env: Gymnasium id, or a function that makes an environment, or one that is
            made; with more settings as an `EnvironmentSource`.
        seed: Seed of the run.
        env_index: Index of the environment.
        first: Index of the first of its vector.
        purpose: Training or evaluation.
        render_mode: As Gymnasium's.
        episodes: Of an evaluation.

    Raises:
        UserModuleError: a module of the user's can't be imported.
        UnknownEnvironmentError: the id is unknown (close matches are named) or a
            package is missing (the extra to install is named).
        EnvironmentWorkerError: its constructor raised.
        ValueError: it is no environment, or lacks what `env` asks for.
    """
    source = EnvironmentSource.of(env)
    import_modules(source.modules)
    made = _made(source, env_index, render_mode)
    try:
        _require_spaces(made, source.name)
        return SeededEpisodes(
            made, seed, env_index, purpose, first, episodes,
            source.omit_observations, source.action_masks,
        )  # fmt: skip
    except BaseException as cause:
        with noting_failure(cause):
            made.close()
        raise


def _made(
    source: EnvironmentSource, env_index: int, render_mode: str | None
) -> gymnasium.Env:
    # Not every environment takes a render mode, not even None.
    options = dict(source.env_kwargs)
    if render_mode is not None:
        options["render_mode"] = render_mode
    env, name, wrapper = source.env, source.name, source.wrapper()
    if isinstance(env, gymnasium.Env):
        return env
    if isinstance(env, str):
        env = registered(env)
    try:
        _hear_mujoco(env)
        if callable(env):
            made = env(**options)
        else:  # Everything that Gymnasium's checker looks at is checked here.
            made = gymnasium.make(env, disable_env_checker=True, **options)
        if wrapper is not None:
            made = wrapper(made)
    except BaseException as error:
        raise _failure(name, env_index, error) from error
    if not isinstance(made, gymnasium.Env):
        raise ValueError(
            f"`env`: expected a function that returns a gymnasium.Env, got "
            f"{shown(made)} from {name}."
        )
    return made


def _require_spaces(env: gymnasium.Env, name: str) -> None:
    for field in ("observation_space", "action_space"):
        space = getattr(env, field, None)
        if not isinstance(space, gymnasium.Space):
            raise ValueError(
                f"`env`: expected {field} of {name} to be a gymnasium.Space, got "
                f"{shown(space)}. Have its constructor set one of gymnasium.spaces."
            )


def _hear_mujoco(env: Any) -> None:
    """Have MuJoCo's warnings said once each, as Python's are.

    By itself it prints them for each environment that is made, and appends them to
    MUJOCO_LOG.TXT in the current directory.
    """
    if isinstance(env, EnvSpec) and isinstance(env.entry_point, str):
        load_env_creator(env.entry_point)  # As `gymnasium.make` does next.
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn_once)


@functools.cache
def _warn_once(text: str) -> None:
    # Gymnasium's own models have attributes that newer MuJoCo calls deprecated, of
    # which nobody who trains on them can do anything.
    if "deprecated" not in text:
        warnings.warn(f"MuJoCo: {text}", stacklevel=2)


def _failure(name: str, env_index: int, error: BaseException) -> BaseException:
    """What is said of an environment that can't be made."""
    said = " ".join(str(error).split())
    match error:
        case gymnasium.error.DependencyNotInstalled():
            text = (
                f"{name!r} needs a package that is not installed ({said}) Install it, "
                'for MuJoCo by: pip install "trpo[mujoco]".'
            )
        case gymnasium.error.Error():
            return UnknownEnvironmentError(unknown(name, error))
        case ModuleNotFoundError():
            text = (
                f"{name!r} needs the module {error.name!r}; install the package that "
                "it is of, or name its file: --module PATH."
            )
        case ImportError():  # Gymnasium's too, of ids that other packages have now.
            text = f"{name!r} can't be made: {said}"
        case UnknownEnvironmentError() | KeyboardInterrupt():
            return error
        case _:
            return EnvironmentWorkerError.of(env_index, CONSTRUCTOR, error, name)
    return UnknownEnvironmentError(f"`env_id`: {text}")


def make_vector_environment(
    env: Makes,
    num_envs: int,
    *,
    seed: int,
    vectorization: str = "sync",
    purpose: Purpose = Purpose.TRAINING_RESET,
    timeout: float = 60.0,
    max_restarts: int = 0,
    share: slice | None = None,
    episodes: int | None = None,
) -> VectorEnv:
    """`num_envs` environments with seeded episodes, resetting in the same step.

    Args:
        env: See `make_environment`.
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
        episodes: Of an evaluation: this many episodes, numbered from 0, are played in
            all; environment i has i, i + `num_envs` and so on, and then rests.

    Raises:
        UserModuleError: see `make_environment`.
        UnknownEnvironmentError: likewise.
        EnvironmentWorkerError: a constructor raised, or did not return in time.
        ValueError: "ray" without Ray, or without the cluster; "envpool" without
            EnvPool, or for an environment that it has not.
    """
    indices = range(num_envs)[share or slice(None)]
    source = EnvironmentSource.of(env)
    import_modules(source.modules)
    # The process that makes it may not have registered it.
    source = source.resolved()
    make = functools.partial(
        make_environment, source, seed=seed, first=indices.start, purpose=purpose
    )
    if vectorization == "envpool":
        return _pool(source, make(), indices, seed, purpose)
    plans = [
        None if episodes is None else range(i, episodes, num_envs) for i in indices
    ]
    makers = [
        functools.partial(make, env_index=i, episodes=plan)
        for i, plan in zip(indices, plans, strict=True)
    ]
    if vectorization == "sync":
        return LeanVectorEnv(makers)
    workers = RayWorkers(makers) if vectorization == "ray" else None
    return _in_workers(makers, workers, timeout, max_restarts)


def _in_workers(
    makers: Sequence[Maker],
    workers: RayWorkers | None,
    timeout: float,
    max_restarts: int,
) -> WorkerVectorEnv:
    try:
        return WorkerVectorEnv(
            makers, workers, timeout=timeout, max_restarts=max_restarts
        )
    except EnvironmentWorkerError as error:
        kind, _, message = error.reason.partition(": ")
        if kind.endswith(UnknownEnvironmentError.__name__):
            raise UnknownEnvironmentError(f"{message}.") from error
        raise


def _pool(
    source: EnvironmentSource,
    like: gymnasium.Env,
    indices: range,
    seed: int,
    purpose: Purpose,
) -> PooledVectorEnv:
    with closing(like.close):
        plain = EnvironmentSource(source.env, source.modules)
        if source != plain:
            raise ValueError(
                "`vectorization`: expected 'sync', 'async' or 'ray' with `env_kwargs`, "
                "`wrapper_class`, `action_masks` or `omit_observations`, got 'envpool'."
            )
        return PooledVectorEnv(source.name, like, indices, seed=seed, purpose=purpose)
