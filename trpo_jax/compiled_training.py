"""The whole training loop as one compiled program, for one run or many at once.

An iteration is the host's (`trpo.training.Trainer.train_once`): rollout, scaled
rewards, advantages, the one update that the agent has too (`compiled.pure_update`),
then the observations' statistics. PureJaxRL (Lu et al. 2022) showed what that gains.
PyTorch runs its loop from the host, so that backend has no such file.
"""

import copy
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trpo.config import TRPOConfig
from trpo.training import RECENT_EPISODES
from trpo.types import Batch, Rates
from trpo_jax import compiled_rollout as rollouts, compiled_statistics as statistics
from trpo_jax.compiled import TRPOState, pure_update
from trpo_jax.compiled_environment import EnvironmentState, start
from trpo_jax.compiled_rollout import DeviceRollout, IterationNoise, Policy
from trpo_jax.compiled_statistics import Moments


class Program(NamedTuple):
    """What is compiled for; two runs with equal ones share one compilation.

    Attributes:
        policy: how to act.
        agent: hyperparameters that are no arrays.
        num_envs: B.
        rollout_steps: T.
        scale_returns: whether rewards are divided by the running deviation.
        members_at_once: members computed together; the others wait for their turn.
    """

    policy: Policy
    agent: TRPOConfig
    num_envs: int
    rollout_steps: int
    scale_returns: bool
    members_at_once: int = 1


class Hyperparameters(NamedTuple):
    """Fields of `TRPOConfig` that may differ from member to member, each []."""

    gamma: Any
    gae_lambda: Any
    cg_damping: Any
    cg_residual_tol: Any
    max_grad_norm: Any


class Member(NamedTuple):
    """What is fixed of one run of many; with a leading axis, of all of them.

    Attributes:
        key: [2] random words (uint32) that its noise is drawn from.
        evaluation_seeds: [episodes] seeds (uint32) of its evaluation.
        hyperparameters: its own.
    """

    key: jax.Array
    evaluation_seeds: jax.Array
    hyperparameters: Hyperparameters


class LoopState(NamedTuple):
    """All that the next iteration depends on beside noise and hyperparameters.

    Attributes:
        learner: weights and optimiser.
        observation_moments: [obs_dim] of raw observations.
        return_moments: [1] of discounted returns.
        discounted: [B] discounted return of each open episode.
        environments: between two steps.
        recent: [100, 2] return and length of the newest episodes, the newest last.
        update: [] updates done.
        episodes: [] episodes finished.
    """

    learner: TRPOState
    observation_moments: Moments
    return_moments: Moments
    discounted: jax.Array
    environments: EnvironmentState
    recent: jax.Array
    update: jax.Array
    episodes: jax.Array


class IterationMetrics(NamedTuple):
    """What one iteration reports; everything in `trpo.training`'s units.

    Attributes:
        report: [20] the fields of `trpo.types.UpdateReport`.
        episode_return: mean raw return of the last 100 episodes.
        episode_length: mean length of the last 100 episodes.
        episodes: episodes finished so far.
        return_scale: divisor of rewards.
        finite: whether all observations and rewards were.
    """

    report: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    episodes: jax.Array
    return_scale: jax.Array
    finite: jax.Array


def initial_state(program: Program, learner: TRPOState, keys: jax.Array) -> LoopState:
    """A run before its first iteration.

    Args:
        program: Environment and sizes.
        learner: Initial weights and optimiser.
        keys: [B, 2] random words for the first initial states.
    """
    environments = start(program.policy.environment, keys)
    zeros = jnp.zeros_like(environments.episode_return)
    return LoopState(
        learner=learner,
        observation_moments=statistics.no_moments(environments.obs.shape[-1]),
        return_moments=statistics.no_moments(1),
        discounted=zeros,
        environments=environments,
        recent=jnp.zeros((RECENT_EPISODES, 2), zeros.dtype),
        update=jnp.zeros((), jnp.int32),
        episodes=jnp.zeros((), jnp.int32),
    )


def iterate(
    program: Program,
    hyperparameters: Hyperparameters,
    state: LoopState,
    rates: Rates,
    noise: IterationNoise,
) -> tuple[LoopState, IterationMetrics]:
    """One iteration, a pure function of its arguments.

    Args:
        program: What is compiled for.
        hyperparameters: Of this run.
        state: Before the iteration.
        rates: Of this update.
        noise: All that is random.
    """
    policy = program.policy
    environments, rollout = rollouts.collect(
        policy, state.learner, state.observation_moments, state.environments, noise
    )
    batch, return_moments, discounted = prepare_batch(
        program, hyperparameters, state, rollout
    )
    learner, report = pure_update(
        policy.functions,
        with_arrays(program.agent, hyperparameters),
        state.learner,
        batch,
        noise.orders,
        rates,
    )
    # Only now: during rollout and update the statistics are frozen, so that the policy
    # that acted is the policy that is improved, and the ratio starts at 1.
    observation_moments = state.observation_moments
    if policy.normalize_observations:
        observation_moments = statistics.add(observation_moments, _rows(rollout.obs))
    recent, count = newest_episodes(state.recent, rollout)
    after = LoopState(
        learner=learner,
        observation_moments=observation_moments,
        return_moments=return_moments,
        discounted=discounted,
        environments=environments,
        recent=recent,
        update=state.update + 1,
        episodes=state.episodes + count,
    )
    return after, _metrics(after, rollout, report)


def prepare_batch(
    program: Program,
    hyperparameters: Hyperparameters,
    state: LoopState,
    rollout: DeviceRollout,
) -> tuple[Batch, Moments, jax.Array]:
    """The update's batch, as `trpo.training.Trainer.prepare_batch` makes it.

    Returns:
        The batch, the moments of discounted returns and the open episodes' discounted
        returns [B] after the rollout.
    """
    policy, rewards = program.policy, rollout.rewards
    moments, discounted = state.return_moments, state.discounted
    if program.scale_returns:
        done = rollout.terminated | rollout.truncated
        discounted, running = statistics.discounted_returns(
            discounted, rewards, done, hyperparameters.gamma
        )
        moments = statistics.add(moments, running.reshape(-1, 1))
        rewards = rewards / statistics.standard_deviation(moments)[0]
    advantages, returns = statistics.generalized_advantages(
        rewards,
        rollout.values,
        rollout.next_values,
        rollout.terminated,
        rollout.truncated,
        gamma=hyperparameters.gamma,
        gae_lambda=hyperparameters.gae_lambda,
    )
    if program.agent.normalize_advantages:
        advantages = statistics.normalize_advantages(advantages)
    batch = Batch(
        obs=_rows(policy.prepare(state.observation_moments, rollout.obs)),
        actions=_rows(rollout.actions),
        log_probs=rollout.log_probs.reshape(-1, 1),
        returns=returns.reshape(-1, 1),
        advantages=advantages.reshape(-1, 1),
    )
    batch = Batch(*(field.astype(policy.dtype) for field in batch))
    return batch, moments, discounted


def newest_episodes(
    recent: jax.Array, rollout: DeviceRollout
) -> tuple[jax.Array, jax.Array]:
    """The newest 100 episodes [100, 2] after a rollout, and how many it finished.

    Args:
        recent: [100, 2] return and length before it, the newest last.
        rollout: In order of time, and of environments at one time.
    """
    done = (rollout.terminated | rollout.truncated).reshape(-1)
    found = jnp.stack([rollout.episode_return, rollout.episode_length], axis=-1)
    count, size = done.sum(), recent.shape[0]
    newer = count - jnp.cumsum(done)  # Episodes that ended after this one.
    # A place past the end is dropped.
    places = jnp.where(done & (newer < size), size - 1 - newer, size)
    kept = jnp.roll(recent, -jnp.minimum(count, size), axis=0)
    found = found.reshape(-1, 2).astype(recent.dtype)
    return kept.at[places].set(found, mode="drop"), count.astype(jnp.int32)


def with_arrays(config: TRPOConfig, hyperparameters: Hyperparameters) -> TRPOConfig:
    """`config` with arrays for numbers: unchecked and without a hash.

    For pure functions, which read its fields alone.
    """
    traced = copy.copy(config)
    for name, value in hyperparameters._asdict().items():
        object.__setattr__(traced, name, value)
    return traced


@functools.partial(jax.jit, static_argnums=0)
def run_chunk(
    program: Program,
    members: Member,
    state: LoopState,
    rates: Rates,
    iterations: jax.Array,
    evaluate: jax.Array,
) -> tuple[LoopState, IterationMetrics, tuple[jax.Array, jax.Array]]:
    """Several iterations and an evaluation, compiled whole, once for all chunks.

    Args:
        program: What is compiled for.
        members: One run's, or with a leading axis [M] those of M runs.
        state: Likewise.
        rates: [chunk] or [chunk, M] of each update; the chunk's length is the most
            iterations it can run.
        iterations: [] how many to run; an array, so that a shorter last chunk, or one
            that ends where a checkpoint is due, compiles nothing anew.
        evaluate: [] whether to play the evaluation's episodes afterwards.

    Returns:
        The state after it; the metrics, [chunk, …] or [chunk, M, …], zero beyond
        `iterations`; and the evaluation's returns and lengths, [episodes] or
        [M, episodes], zero if there was none.
    """
    policy = program.policy

    def one(state: LoopState, member: Member, rates: Rates) -> tuple:
        noise = rollouts.draw_noise(
            member.key,
            state.update,
            head=policy.functions.head,
            shape=(program.rollout_steps, program.num_envs),
            epochs=program.agent.value_epochs,
            dtype=policy.dtype,
        )
        return iterate(program, member.hyperparameters, state, rates, noise)

    def score(state: LoopState, member: Member) -> tuple[jax.Array, jax.Array]:
        return rollouts.play(
            policy, state.learner, state.observation_moments, member.evaluation_seeds
        )

    if members.key.ndim == 2:
        one, score = (_over_members(f, program.members_at_once) for f in (one, score))
    nothing = jax.eval_shape(one, state, members, jax.tree.map(lambda x: x[0], rates))

    def body(state: LoopState, at: tuple) -> tuple[LoopState, IterationMetrics]:
        index, now = at
        # Outside of the members' axis, where `cond` computes one branch alone.
        return jax.lax.cond(
            index < iterations,
            lambda: one(state, members, now),
            lambda: (state, _zeros(nothing[1])),
        )

    indices = jnp.arange(rates.target_kl.shape[0])
    state, metrics = jax.lax.scan(body, state, (indices, rates))
    scores = jax.lax.cond(
        evaluate,
        lambda: score(state, members),
        lambda: _zeros(jax.eval_shape(score, state, members)),
    )
    return state, metrics, scores


def _over_members(function: Any, at_once: int) -> Any:
    """`function` over the members' axis, `at_once` of them together by `vmap`."""

    def mapped(*arguments: Any) -> Any:
        size = jax.tree.leaves(arguments)[0].shape[0]
        if at_once >= size:
            return jax.vmap(function)(*arguments)
        return jax.lax.map(lambda a: function(*a), arguments, batch_size=at_once)

    return mapped


def _zeros(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _rows(array: jax.Array) -> jax.Array:
    """[T, B, size] -> [T * B, size]."""
    return array.reshape(-1, array.shape[-1])


def _metrics(
    after: LoopState, rollout: DeviceRollout, report: jax.Array
) -> IterationMetrics:
    size = after.recent.shape[0]
    known = jnp.minimum(after.episodes, size)
    chosen = (jnp.arange(size) >= size - known)[:, None]
    means = (after.recent * chosen).sum(0) / jnp.maximum(known, 1)
    numbers = (rollout.obs, rollout.rewards, rollout.next_values)
    return IterationMetrics(
        report=report,
        episode_return=means[0],
        episode_length=means[1],
        episodes=after.episodes,
        return_scale=statistics.standard_deviation(after.return_moments)[0],
        finite=jnp.stack([jnp.isfinite(array).all() for array in numbers]).all(),
    )
