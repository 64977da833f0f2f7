"""Brax's and MuJoCo Playground's environments in Gymnasium's functional protocol.

Both packages give an environment two functions, `reset(key)` and `step(state, action)`,
whose state has the observation, the reward and whether the episode has ended. PyTorch
can step them from the host, so that backend has no such file.
"""

import difflib
import importlib
from typing import Any, ClassVar

import jax
import numpy as np
from gymnasium import Space
from gymnasium.envs.functional_jax_env import FunctionalJaxEnv
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box
from gymnasium.utils import EzPickle
from gymnasium.vector import AutoresetMode

from trpo.environments.make import UnknownEnvironmentError
from trpo.spaces.spaces import UnsupportedSpaceError


class _PhysicsFunctions(FuncEnv):
    """The pure functions of one environment.

    Actions are in [-1, 1], which is what both packages scale to their actuators.

    Args:
        env: A `brax.envs.Env` or a `mujoco_playground.MjxEnv`, without wrappers.

    Raises:
        UnsupportedSpaceError: its observation is no single vector.
    """

    def __init__(self, env: Any) -> None:
        super().__init__()
        size = env.observation_size
        if not isinstance(size, int | np.integer):
            raise UnsupportedSpaceError(
                "`observation_space`: expected one vector from the environment, got "
                f"parts of the sizes {size}. Wrap it so that it returns one of them."
            )
        self._env = env
        sizes = (int(size),), (int(env.action_size),)
        self.observation_space: Space[Any] = Box(-np.inf, np.inf, sizes[0], np.float32)
        self.action_space: Space[Any] = Box(-1.0, 1.0, sizes[1], np.float32)

    def initial(self, rng: jax.Array, params: Any = None) -> Any:
        """The state at the start of an episode."""
        return self._env.reset(rng)

    def transition(
        self, state: Any, action: jax.Array, rng: Any, params: Any = None
    ) -> Any:
        """The state one step on."""
        return self._env.step(state, action)

    def observation(self, state: Any, rng: Any, params: Any = None) -> jax.Array:
        """Observation [obs_dim] of a state."""
        return state.obs

    def reward(
        self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None
    ) -> jax.Array:
        """Reward [] of the step that led to `next_state`."""
        return next_state.reward

    def terminal(self, state: Any, rng: Any, params: Any = None) -> jax.Array:
        """Whether a state ends its episode; both packages say so by a number."""
        return state.done > 0.5


class _PhysicsEnv(FunctionalJaxEnv, EzPickle):
    """The same as a Gymnasium environment, so that the host can step it too.

    Args:
        library: A name in `trpo.environments.ids.LIBRARIES`.
        name: The environment's, in that package.
        render_mode: None; neither package renders in the loop.
        options: Passed on, such as Brax's `backend`.

    Raises:
        UnknownEnvironmentError: the package is not installed, or has no such one.
        UnsupportedSpaceError: see `_PhysicsFunctions`.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": [],
        "jax": True,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self, library: str, name: str, render_mode: str | None = None, **options: Any
    ) -> None:
        EzPickle.__init__(self, library, name, render_mode, **options)
        make = {"brax": _from_brax, "playground": _from_playground}[library]
        functions = _PhysicsFunctions(make(name, options))
        functions.transform(jax.jit)
        super().__init__(functions, self.metadata, render_mode)


def _from_brax(name: str, options: dict[str, Any]) -> Any:
    envs = _imported("brax", "brax.envs")
    _require_known("brax", name, list(envs._envs))
    return envs.get_environment(name, **options)


def _from_playground(name: str, options: dict[str, Any]) -> Any:
    registry = _imported("playground", "mujoco_playground").registry
    _require_known("playground", name, list(registry.ALL_ENVS))
    if "impl" in registry.get_default_config(name):
        # Its own default, Warp, is for NVIDIA GPUs, and no pure function of JAX.
        options = {"impl": "jax"} | options
    return registry.load(name, config_overrides=options or None)


def _imported(library: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnknownEnvironmentError(
            f"`env_id`: environments of {library} need a package that is not installed "
            f'({error}). Install it by: pip install "trpo[{library}]"'
        ) from error


def _require_known(library: str, name: str, known: list[str]) -> None:
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)
    raise UnknownEnvironmentError(
        f"`env_id`: expected an environment of {library}, such as "
        f"{', '.join(f'{library}/{other}' for other in close[:12])}, got "
        f"{library}/{name}."
    )
