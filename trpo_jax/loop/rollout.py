"""Rollouts on the device: acting and stepping in one `lax.scan`.

Everything random is an input: the arrays in `IterationNoise`, supplied by the caller
or drawn on the device from a counter-based key.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from trpo.spaces.action_heads import Head
from trpo_jax.agent.update import Functions, TRPOState, act
from trpo_jax.devices.device import matmul_precision
from trpo_jax.loop import statistics
from trpo_jax.loop.environment import (
    EnvironmentState,
    FunctionalEnvironment,
    start,
    step,
)
from trpo_jax.loop.statistics import Moments
from trpo_jax.networks import pure_policy
from trpo_jax.networks.pure_policy import to_environment


# Leaves as many bits of a word to chance.
MOST_NUMBER_BITS = 16


class Policy(NamedTuple):
    """Static settings of acting; hashable, so that JAX may jit on them.

    Attributes:
        environment: the environment's functions.
        functions: the networks.
        precision: of matrix products, as `TRPOConfig.matmul_precision`.
        dtype: of the networks' arithmetic.
        normalize_observations: whether to normalise what the networks get.
        observation_clip: bound of normalised observations.
    """

    environment: FunctionalEnvironment
    functions: Functions
    precision: str
    dtype: str
    normalize_observations: bool
    observation_clip: float

    def prepare(self, moments: Moments, obs: jax.Array) -> jax.Array:
        """Raw `obs` [..., obs_dim] as the networks get it."""
        if self.normalize_observations:
            obs = statistics.normalize(moments, obs, self.observation_clip)
        return obs.astype(self.dtype)


class IterationNoise(NamedTuple):
    """All that is random in one iteration, T steps of B environments and an update.

    Attributes:
        actions: [T, B, act_dim] what actions are sampled from, standard normal or
            uniform in [0, 1), as `trpo.spaces.action_heads.Head.draw_noise` makes it.
        transition_keys: [T, B, 2] random words (uint32) for each step.
        reset_keys: [T, B, 2] random words for the episode that starts after a step.
        orders: [epochs, T * B] minibatch orders of the critic's epochs.
    """

    actions: jax.Array
    transition_keys: jax.Array
    reset_keys: jax.Array
    orders: jax.Array


class DeviceRollout(NamedTuple):
    """Transitions of B environments over T steps: a `Rollout` on the device.

    Attributes:
        obs: [T, B, obs_dim] observation s_t, raw.
        actions: [T, B, act_dim] action as sampled, before clipping to the bounds.
        log_probs: [T, B] log-probability of the action, nats.
        values: [T, B] critic's V(s_t), in units of scaled return.
        next_values: [T, B] V(s_{t+1}), of the final observation where an episode ends.
        rewards: [T, B] raw rewards.
        terminated: [T, B] the episode ended in a terminal state.
        truncated: [T, B] the episode was cut off by the time limit.
        episode_return: [T, B] raw return of the episode up to and with this step.
        episode_length: [T, B] its steps.
    """

    obs: jax.Array
    actions: jax.Array
    log_probs: jax.Array
    values: jax.Array
    next_values: jax.Array
    rewards: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array


def draw_noise(
    key: jax.Array,
    update: jax.Array,
    *,
    head: Head,
    shape: tuple[int, int],
    epochs: int,
    dtype: str,
) -> IterationNoise:
    """The noise of iteration `update`, a function of the key and that number alone.

    Drawn by Threefry-2x32 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as
    1, 2, 3"), so that no state is carried and a run can be resumed anywhere.

    Args:
        key: [2] random words (uint32) of the run.
        update: [] updates before this one.
        head: The distribution over actions.
        shape: Steps T and environments B.
        epochs: Of the critic.
        dtype: Of the action noise.
    """
    for_actions, for_steps, for_orders = jax.random.split(
        jax.random.fold_in(key, update), 3
    )
    words = jax.random.bits(for_steps, (2, *shape, 2), jnp.uint32)
    return IterationNoise(
        actions=pure_policy.draw_noise(head, for_actions, shape, dtype),
        transition_keys=words[0],
        reset_keys=words[1],
        orders=random_orders(for_orders, epochs, shape[0] * shape[1]),
    )


def random_orders(key: jax.Array, epochs: int, size: int) -> jax.Array:
    """Orders in which the critic's epochs visit the batch: [epochs, size], int32.

    Random words are sorted, each with its sample's number for its lowest bits: that
    takes a fifth of the time of sorting pairs on a CPU. Where the other bits are equal,
    as for one pair in an epoch of 2,048, the two keep their order, which matters only
    if a minibatch ends between them. So batches of more than 65,536 sort pairs.
    """
    words = jax.random.bits(key, (epochs, size), jnp.uint32)
    number_bits = (size - 1).bit_length()
    if number_bits > MOST_NUMBER_BITS:
        return jnp.argsort(words, axis=1).astype(jnp.int32)
    mask = jnp.uint32(2**number_bits - 1)
    numbers = jnp.arange(size, dtype=jnp.uint32)
    packed = jnp.sort((words & ~mask) | numbers[None], axis=1)
    return (packed & mask).astype(jnp.int32)


def collect(
    policy: Policy,
    learner: TRPOState,
    moments: Moments,
    environments: EnvironmentState,
    noise: IterationNoise,
) -> tuple[EnvironmentState, DeviceRollout]:
    """T steps of B environments with the policy as it is.

    Args:
        policy: What to act with.
        learner: The networks' weights.
        moments: Of observations; frozen during the rollout.
        environments: Where to begin.
        noise: T steps of it.
    """
    environment, functions = policy.environment, policy.functions

    def one(before: EnvironmentState, at: tuple) -> tuple:
        for_action, transition_keys, reset_keys = at
        obs = policy.prepare(moments, before.obs)
        actions, _, _ = act(
            functions, policy.precision, learner.policy, learner.critic, obs, for_action
        )
        sent = to_environment(environment.spec, actions)
        after, transition = step(environment, before, sent, transition_keys, reset_keys)
        return after, (before.obs, actions, transition)

    after, (obs, actions, transition) = jax.lax.scan(
        one, environments, (noise.actions, noise.transition_keys, noise.reset_keys)
    )
    # One product for all steps instead of one a step: the weights are the same.
    flat = policy.prepare(moments, obs).reshape(-1, obs.shape[-1])
    final = policy.prepare(moments, transition.final_obs).reshape(flat.shape)
    with matmul_precision(policy.precision):
        distribution = functions.policy(learner.policy, flat)
        values, next_values = (
            functions.critic(learner.critic, functions.encoded(learner.policy, obs))
            for obs in (flat, final)
        )
    chosen = actions.reshape(flat.shape[0], -1)
    log_probs = distribution.log_prob(chosen)
    shape = transition.rewards.shape
    return after, DeviceRollout(
        obs=obs,
        actions=actions,
        log_probs=log_probs.reshape(shape),
        values=values.reshape(shape).astype(transition.rewards.dtype),
        next_values=next_values.reshape(shape).astype(transition.rewards.dtype),
        rewards=transition.rewards,
        terminated=transition.terminated,
        truncated=transition.truncated,
        episode_return=transition.episode_return,
        episode_length=transition.episode_length,
    )


def newest_episodes(
    recent: jax.Array, rollout: DeviceRollout
) -> tuple[jax.Array, jax.Array]:
    """The newest 100 episodes [100, 2] after a rollout, and how many it finished.

    Args:
        recent: [100, 2] return and length before it, the newest last.
        rollout: In order of time, and of environments at one time.
    """
    done = (rollout.terminated | rollout.truncated).reshape(-1)
    episodes = jnp.stack([rollout.episode_return, rollout.episode_length], axis=-1)
    count, size = done.sum(), recent.shape[0]
    newer = count - jnp.cumsum(done)  # Episodes that ended after this one.
    # A place past the end is dropped.
    places = jnp.where(done & (newer < size), size - 1 - newer, size)
    kept = jnp.roll(recent, -jnp.minimum(count, size), axis=0)
    episodes = episodes.reshape(-1, 2).astype(recent.dtype)
    return kept.at[places].set(episodes, mode="drop"), count.astype(jnp.int32)


def play(
    policy: Policy, learner: TRPOState, moments: Moments, seeds: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Whole episodes of the deterministic policy, as `trpo evaluate` plays them.

    Random words are split as `gymnasium.envs.functional_jax_env.FunctionalJaxEnv` does
    after `reset(seed=…)`, so that both meet the same initial states.

    Args:
        policy: What to act with.
        learner: The networks' weights.
        moments: Of observations.
        seeds: [episodes] seed of each.

    Returns:
        Undiscounted raw return and length in steps of each episode, [episodes].
    """
    environment, functions = policy.environment, policy.functions
    split = jax.vmap(jax.random.split)
    first = split(jax.vmap(jax.random.PRNGKey)(seeds))
    environments = start(environment, first[:, 0])
    going_on = jnp.ones(seeds.shape, bool)
    zeros = (jnp.zeros_like(environments.episode_return), environments.steps)

    def one(carry: tuple, _: None) -> tuple[tuple, None]:
        before, keys, playing, returns, lengths = carry
        now = split(keys)
        obs = policy.prepare(moments, before.obs)
        actions, _, _ = act(
            functions, policy.precision, learner.policy, learner.critic, obs, None
        )
        sent = to_environment(environment.spec, actions)
        # The next episodes are not scored: any key does.
        after, transition = step(environment, before, sent, now[:, 0], now[:, 0])
        returns = jnp.where(playing, transition.episode_return, returns)
        lengths = jnp.where(playing, transition.episode_length, lengths)
        playing &= ~(transition.terminated | transition.truncated)
        return (after, now[:, 1], playing, returns, lengths), None

    begin = (environments, first[:, 1], going_on, *zeros)
    (_, _, _, returns, lengths), _ = jax.lax.scan(
        one, begin, length=environment.max_episode_steps
    )
    return returns, lengths
