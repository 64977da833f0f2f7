"""Environments as pure functions, so that they can be compiled with the training loop.

Any Gymnasium environment made of a `gymnasium.experimental.functional.FuncEnv`, as
Gymnasium's own `phys2d/…` are, with its time limit and with autoreset inside. PyTorch
steps environments from the host, so that backend has no such file.
"""

import functools
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import jax
import jax.numpy as jnp
from gymnasium.experimental.functional import FuncEnv

from trpo.environments.ids import registered
from trpo.environments.make import make_environment
from trpo.spaces.action_heads import GAUSSIAN
from trpo.spaces.spaces import PolicySpec, UnsupportedSpaceError, policy_spec


AnyFuncEnv: TypeAlias = FuncEnv[Any, Any, Any, Any, Any, Any, Any]
SHIPPED = "gymnasium.envs.phys2d"


class EnvironmentState(NamedTuple):
    """B environments between two steps.

    Attributes:
        state: the environment's own tree of arrays, each [B, …].
        obs: [B, obs_dim] observation to act on next, raw.
        steps: [B] steps of the open episode so far.
        episode_return: [B] its undiscounted raw return so far.
    """

    state: Any
    obs: jax.Array
    steps: jax.Array
    episode_return: jax.Array


class Transition(NamedTuple):
    """Result of one step; rows are environments.

    Attributes:
        final_obs: [B, obs_dim] observation that the step led to; not the one to act on
            next where an episode ended.
        rewards: [B] raw rewards.
        terminated: [B] the step led to a terminal state.
        truncated: [B] the episode was cut off by the time limit after the step.
        episode_return: [B] undiscounted raw return of the episode, this step included.
        episode_length: [B] its steps, this one included.
    """

    final_obs: jax.Array
    rewards: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array


class FunctionalEnvironment:
    """One functional environment and its time limit; JAX may jit on it by identity.

    Args:
        func_env: The environment's pure functions.
        max_episode_steps: Steps after which an episode is cut off.
        policy_distribution: Over Box actions, see `trpo.config.run.TRPOConfig`.

    Raises:
        UnsupportedSpaceError: no policy can be made for its spaces.
    """

    functions: AnyFuncEnv

    def __init__(
        self,
        func_env: AnyFuncEnv,
        max_episode_steps: int,
        policy_distribution: str = GAUSSIAN,
    ) -> None:
        self.functions = func_env
        self.max_episode_steps = max_episode_steps
        self.spec: PolicySpec = policy_spec(
            func_env.observation_space, func_env.action_space, policy_distribution
        )
        if self.spec.images:
            raise UnsupportedSpaceError(
                "`observation_space`: expected no image for compiled training, got "
                f"{func_env.observation_space}. Leave --compiled out to train on it."
            )
        if self.spec.structure is not None:
            raise UnsupportedSpaceError(
                "`action_space`: expected Box, Discrete, MultiDiscrete or MultiBinary "
                f"for compiled training, got {func_env.action_space}. Leave --compiled "
                "out to train on it."
            )

    def observe(self, state: Any, key: jax.Array) -> jax.Array:
        """Observation [obs_dim] of one environment's state, in the default dtype."""
        obs = jnp.asarray(self.functions.observation(state, key))
        return obs.reshape(self.spec.obs_dim).astype(jnp.result_type(float))


def functional_environment(
    env_id: str,
    max_episode_steps: int | None = None,
    policy_distribution: str = GAUSSIAN,
) -> FunctionalEnvironment:
    """The functional environment behind a registered one; the same object each time.

    Unless its id has been registered anew.

    Args:
        env_id: Gymnasium id.
        max_episode_steps: Another time limit than the registered one.
        policy_distribution: Over Box actions, see `trpo.config.run.TRPOConfig`.

    Raises:
        UnknownEnvironmentError: the id is unknown, or needs a missing package.
        ValueError: it is no functional environment, or has no time limit.
        UnsupportedSpaceError: no policy can be made for its spaces.
    """
    spec = str(registered(env_id))
    return _of_spec(spec, env_id, max_episode_steps, policy_distribution)


@functools.lru_cache(maxsize=64)
def _of_spec(
    _: str, env_id: str, max_episode_steps: int | None, policy_distribution: str
) -> FunctionalEnvironment:
    env = make_environment(env_id, seed=0)
    try:
        func_env: Any = getattr(env.unwrapped, "func_env", None)
        # Of the registry: that of `env` counts our own wrapper too.
        spec = registered(env_id)
        spec = gymnasium.spec(spec) if isinstance(spec, str) else spec
        if not isinstance(func_env, FuncEnv) or spec.additional_wrappers:
            raise ValueError(
                "`env_id`: expected an environment made of Gymnasium's functional "
                f"protocol (FuncEnv) for compiled training, such as "
                f"{', '.join(shipped_ids())}, got {env_id!r}. Leave --compiled out to "
                "train on it."
            )
        limit = max_episode_steps or spec.max_episode_steps
        if limit is None:
            raise ValueError(
                f"`env_id`: expected an environment with a time limit, got {env_id!r}, "
                "which has none. Register it with `max_episode_steps`."
            )
    finally:
        env.close()
    return FunctionalEnvironment(func_env, limit, policy_distribution)


def functional_environment_of(
    env: Any, policy_distribution: str = GAUSSIAN
) -> FunctionalEnvironment:
    """The functional environment of one that is made, or that a function makes.

    Args:
        env: A `gymnasium.envs.functional_jax_env.FunctionalJaxEnv` in a
            `gymnasium.wrappers.TimeLimit`, or a function that makes it.
        policy_distribution: Over Box actions, see `trpo.config.run.TRPOConfig`.

    Raises:
        ValueError: it is no functional environment, has no time limit, or wrappers that
            no compiled program runs.
        UnsupportedSpaceError: no policy can be made for its spaces.
    """
    made = env if isinstance(env, gymnasium.Env) else env()
    func_env, limit, inner = getattr(made.unwrapped, "func_env", None), None, made
    while isinstance(inner, gymnasium.Wrapper):
        if isinstance(inner, gymnasium.wrappers.TimeLimit):
            limit = inner._max_episode_steps
        elif not isinstance(inner, _BARE):
            raise ValueError(
                "`env`: expected no wrapper but TimeLimit, as no compiled program runs "
                f"it, got {type(inner).__name__}."
            )
        inner = inner.env
    if not isinstance(func_env, FuncEnv) or limit is None:
        raise ValueError(
            "`env`: expected a FunctionalJaxEnv in a gymnasium.wrappers.TimeLimit, got "
            f"{made}."
        )
    return FunctionalEnvironment(func_env, limit, policy_distribution)


# Wrappers of Gymnasium's own that look at what passes, and change nothing.
_BARE = (gymnasium.wrappers.OrderEnforcing, gymnasium.wrappers.PassiveEnvChecker)


def shipped_ids() -> list[str]:
    """Ids of Gymnasium's own functional environments."""
    return sorted(
        env_id
        for env_id, spec in gymnasium.registry.items()
        if str(spec.entry_point).startswith(SHIPPED)
    )


def start(environment: FunctionalEnvironment, keys: jax.Array) -> EnvironmentState:
    """B environments at the start of an episode each.

    Args:
        environment: The functions.
        keys: [B, 2] random words (uint32), one key for each initial state.
    """
    state, obs = jax.vmap(functools.partial(_initial, environment))(keys)
    size = keys.shape[0]
    return EnvironmentState(
        state, obs, jnp.zeros(size, jnp.int32), jnp.zeros(size, obs.dtype)
    )


def step(
    environment: FunctionalEnvironment,
    before: EnvironmentState,
    actions: jax.Array,
    transition_keys: jax.Array,
    reset_keys: jax.Array,
) -> tuple[EnvironmentState, Transition]:
    """One step of B environments; where an episode ends, the next one starts at once.

    Args:
        environment: The functions.
        before: The environments.
        actions: [B, …] as the environment takes them; see `to_environment`.
        transition_keys: [B, 2] random words for the step.
        reset_keys: [B, 2] random words for the next episode's start, if it comes.
    """
    single = functools.partial(_step_one, environment)
    return jax.vmap(single)(before, actions, transition_keys, reset_keys)


def _initial(
    environment: FunctionalEnvironment, key: jax.Array
) -> tuple[Any, jax.Array]:
    state = environment.functions.initial(key)
    return state, environment.observe(state, key)


def _step_one(
    environment: FunctionalEnvironment,
    before: EnvironmentState,
    action: jax.Array,
    transition_key: jax.Array,
    reset_key: jax.Array,
) -> tuple[EnvironmentState, Transition]:
    """`step` of one environment: no array has the axis B."""
    functions, key = environment.functions, transition_key
    after = functions.transition(before.state, action, key)
    # Some environments start in the default dtype and go on in float32.
    after = jax.tree.map(
        lambda new, old: jnp.asarray(new, old.dtype), after, before.state
    )
    reward = jnp.asarray(functions.reward(before.state, action, after, key))
    reward = reward.reshape(()).astype(before.obs.dtype)
    terminated = jnp.asarray(functions.terminal(after, key), bool).reshape(())
    steps = before.steps + 1
    transition = Transition(
        final_obs=environment.observe(after, key),
        rewards=reward,
        terminated=terminated,
        truncated=steps >= environment.max_episode_steps,
        episode_return=before.episode_return + reward,
        episode_length=steps,
    )
    fresh, fresh_obs = _initial(environment, reset_key)
    went_on = EnvironmentState(
        after, transition.final_obs, steps, transition.episode_return
    )
    restarted = EnvironmentState(
        fresh, fresh_obs, jnp.zeros_like(steps), jnp.zeros_like(reward)
    )
    done = terminated | transition.truncated
    now = jax.tree.map(lambda new, old: jnp.where(done, new, old), restarted, went_on)
    return now, transition
