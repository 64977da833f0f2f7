"""One iteration of training as a pure function, for compiled training.

It is the host's (`trpo.training.trainer.Trainer.train_once`): rollout, scaled rewards,
advantages, the one update that the agent has too (`compiled.pure_update`), then the
observations' statistics. PyTorch iterates from the host, so that backend has no such
file.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch
from trpo.rollout.transitions import Limits
from trpo.training.state import RECENT_EPISODES
from trpo_jax.agent.update import TRPOState, in_turn, pure_update
from trpo_jax.loop import rollout as rollouts, statistics
from trpo_jax.loop.environment import EnvironmentState, start
from trpo_jax.loop.rollout import DeviceRollout, IterationNoise, Policy
from trpo_jax.loop.statistics import Moments


class Program(NamedTuple):
    """Static arguments of the compiled loop; runs with equal ones share a compilation.

    Attributes:
        policy: how to act.
        options: of the updates.
        normalize_advantages: as `TRPOConfig`'s.
        num_envs: B.
        rollout_steps: T.
        scale_returns: whether rewards are divided by the running deviation.
        full_radius_advantage_std: as `TrainConfig`'s.
        members_at_once: members computed together; the others wait for their turn.
        mesh: devices that members are spread over, or that divide the updates of one;
            None for one device.
        both: runs step and fit of an update, as `pure_update` takes it.
    """

    policy: Policy
    options: StepOptions
    normalize_advantages: bool
    num_envs: int
    rollout_steps: int
    scale_returns: bool
    full_radius_advantage_std: float = 0.0
    members_at_once: int = 1
    mesh: Mesh | None = None
    both: Callable[..., tuple] = in_turn


class LoopState(NamedTuple):
    """All that the next iteration depends on beside noise and numbers.

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
    discounted: Any
    environments: EnvironmentState
    recent: Any
    update: Any
    episodes: Any


class IterationMetrics(NamedTuple):
    """Metrics of one iteration, in the units of `trpo.training.trainer`.

    Attributes:
        report: [20] the fields of `trpo.data.report.UpdateReport`.
        episode_return: mean raw return of the last 100 episodes.
        episode_length: mean length of the last 100 episodes.
        episodes: episodes finished so far.
        return_scale: divisor of rewards.
        advantage_std: of this batch, before it was normalised.
        finite: whether all observations and rewards could be used.
    """

    report: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    episodes: jax.Array
    return_scale: jax.Array
    advantage_std: jax.Array
    finite: jax.Array


class Prepared(NamedTuple):
    """A rollout made ready for an update.

    Attributes:
        batch: for the update.
        advantage_std: [] standard deviation of advantages before they are normalised.
        return_moments: [1] of discounted returns, after the rollout.
        discounted: [B] discounted return of each open episode, likewise.
    """

    batch: Batch
    advantage_std: jax.Array
    return_moments: Moments
    discounted: jax.Array


class Iterated(NamedTuple):
    """Outcome of an iteration.

    Attributes:
        state: after it.
        metrics: for the log.
        rollout: what was collected; compiled away where it is not asked for.
        batch: what the update was given; likewise.
    """

    state: LoopState
    metrics: IterationMetrics
    rollout: DeviceRollout
    batch: Batch


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
    numbers: StepNumbers,
    state: LoopState,
    noise: IterationNoise,
) -> Iterated:
    """One iteration, a pure function of its arguments.

    Args:
        program: What is compiled for.
        numbers: Of this update.
        state: Before the iteration.
        noise: All that is random.
    """
    policy = program.policy
    environments, rollout = rollouts.collect(
        policy, state.learner, state.observation_moments, state.environments, noise
    )
    prepared = prepare_batch(program, numbers, state, rollout)
    share = statistics.radius_share(
        prepared.advantage_std, program.full_radius_advantage_std
    )
    learner, report = pure_update(
        policy.functions,
        program.options,
        state.learner,
        prepared.batch,
        noise.orders,
        numbers._replace(target_kl=numbers.target_kl * share.astype(policy.dtype)),
        program.both,
    )
    # Only now: during rollout and update the statistics are frozen, so that the policy
    # that acted is the policy that is improved, and the ratio starts at 1.
    observation_moments = state.observation_moments
    if policy.normalize_observations:
        observation_moments = statistics.add(observation_moments, _rows(rollout.obs))
    recent, count = rollouts.newest_episodes(state.recent, rollout)
    after = LoopState(
        learner=learner,
        observation_moments=observation_moments,
        return_moments=prepared.return_moments,
        discounted=prepared.discounted,
        environments=environments,
        recent=recent,
        update=state.update + 1,
        episodes=state.episodes + count,
    )
    limits = Limits.of(policy.dtype, policy.normalize_observations)
    usable = _usable(after, rollout, limits)
    metrics = _metrics(after, report, prepared.advantage_std, usable)
    return Iterated(after, metrics, rollout, prepared.batch)


def prepare_batch(
    program: Program,
    numbers: StepNumbers,
    state: LoopState,
    rollout: DeviceRollout,
) -> Prepared:
    """The update's batch, as `trpo.training.trainer.Trainer.prepare_batch` makes it."""
    policy, rewards = program.policy, rollout.rewards
    moments, discounted = state.return_moments, state.discounted
    if program.scale_returns:
        done = rollout.terminated | rollout.truncated
        discounted, running = statistics.discounted_returns(
            discounted, rewards, done, numbers.gamma
        )
        moments = statistics.add(moments, running.reshape(-1, 1))
        rewards = rewards / statistics.standard_deviation(moments)[0]
    advantages, returns = statistics.generalized_advantages(
        rewards,
        rollout.values,
        rollout.next_values,
        rollout.terminated,
        rollout.truncated,
        gamma=numbers.gamma,
        gae_lambda=numbers.gae_lambda,
    )
    advantage_std = advantages.std()
    if program.normalize_advantages:
        advantages = statistics.normalize_advantages(advantages)
    batch = Batch(
        obs=_rows(policy.prepare(state.observation_moments, rollout.obs)),
        actions=_rows(rollout.actions),
        log_probs=rollout.log_probs.reshape(-1, 1),
        returns=returns.reshape(-1, 1),
        advantages=advantages.reshape(-1, 1),
    )
    batch = jax.tree.map(lambda field: field.astype(policy.dtype), batch)
    return Prepared(batch, advantage_std, moments, discounted)


def _rows(array: jax.Array) -> jax.Array:
    """[T, B, size] -> [T * B, size]."""
    return array.reshape(-1, array.shape[-1])


def _metrics(
    after: LoopState,
    report: jax.Array,
    advantage_std: jax.Array,
    usable: jax.Array,
) -> IterationMetrics:
    size = after.recent.shape[0]
    known = jnp.minimum(after.episodes, size)
    chosen = (jnp.arange(size) >= size - known)[:, None]
    means = (after.recent * chosen).sum(0) / jnp.maximum(known, 1)
    return IterationMetrics(
        report=report,
        episode_return=means[0],
        episode_length=means[1],
        episodes=after.episodes,
        return_scale=statistics.standard_deviation(after.return_moments)[0],
        advantage_std=advantage_std,
        finite=usable,
    )


def _usable(after: LoopState, rollout: DeviceRollout, limits: Limits) -> jax.Array:
    """Whether all that environments returned can be used, as on the host.

    And whether all that is made of it is finite: statistics are in float32 here, unless
    in 64-bit mode, and overflow long before the host's.
    """
    rest = after._replace(learner=())
    bounds = [(rollout.obs, limits.obs), (rollout.rewards, limits.rewards)]
    bounds += [(x, math.inf) for x in (rollout.next_values, *jax.tree.leaves(rest))]
    return jnp.stack(
        [
            (jnp.abs(x) <= min(largest, float(jnp.finfo(x.dtype).max))).all()
            for x, largest in bounds
            if jnp.issubdtype(x.dtype, jnp.floating)
        ]
    ).all()
