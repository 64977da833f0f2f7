"""The compiled functions of the agent: one jitted update, one jitted forward pass.

PyTorch runs its update as it is written, so that backend has no such file.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Float

from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch, thinned
from trpo.data.report import (
    DISCARDED_COST_FIELDS,
    DISCARDED_FIELDS,
    CostReport,
    StepStatus,
    UpdateReport,
    report_fields,
)
from trpo.spaces.action_heads import Head
from trpo_jax.critic.fit import ValueFit, fit_critic
from trpo_jax.devices.chunked import in_chunks
from trpo_jax.devices.device import matmul_precision
from trpo_jax.distributions import Distribution
from trpo_jax.networks.feedforward import Parameters
from trpo_jax.policy_step.step import PolicyStep, policy_step


# torch's default of 1e-8 lets the first steps after a plateau grow too large.
ADAM_EPSILON = 1e-5


class CriticState(NamedTuple):
    """A critic's parameters, and its optimiser's state."""

    critic: Parameters
    optimizer: Any


class TRPOState(NamedTuple):
    """All arrays that an update reads and writes; `costs` of a constrained agent."""

    policy: Parameters
    critic: Parameters
    optimizer: Any
    costs: CriticState | None = None


class Functions(NamedTuple):
    """The networks as pure functions, hashed by identity, so cheap to jit on.

    Attributes:
        policy: (parameters, observations, mask) -> distribution.
        critic: (parameters, what `encoded` returns) -> values.
        head: of the policy.
        improve: the step, `policy_step` or another of its kind.
        features: (policy's parameters, observations) -> what the critic is given, if
            it shares the policy's encoder.
        mesh: of the devices that the samples are on, where they are many.
    """

    policy: Callable[..., Distribution]
    critic: Callable[[Parameters, jax.Array], jax.Array]
    head: Head
    improve: Callable[..., PolicyStep] = policy_step
    features: Callable[[Parameters, jax.Array], jax.Array] | None = None
    mesh: Mesh | None = None

    def encoded(self, policy: Parameters, obs: jax.Array) -> jax.Array:
        """The critic's input: observations, or the policy's features of them."""
        return obs if self.features is None else self.features(policy, obs)

    def policy_at(
        self,
        unravel: Callable[[jax.Array], Parameters],
        obs: jax.Array,
        mask: jax.Array | None,
        rows: int | None = None,
    ) -> Callable[[jax.Array], Distribution]:
        """The policy as a function of its flat parameters [p], at these samples.

        Args:
            unravel: Flat parameters -> tree of arrays.
            obs: [n, obs_dim] observations.
            mask: [n, options] 0 where an option can't be taken; None for no mask.
            rows: At most so many at a time; None for all.
        """
        arrays = (obs,) if mask is None else (obs, mask)

        def at(theta: Float[jax.Array, " p"]) -> Distribution:
            policy = functools.partial(self.policy, unravel(theta))
            return in_chunks(policy, rows, *arrays) if rows else policy(*arrays)

        return at

    def fit_critic(
        self, policy: Parameters, *arguments: Any, batch: Batch, **options: Any
    ) -> tuple[Parameters, Any, ValueFit]:
        """`critic.fit.fit_critic`, to what the critic is given under this policy."""
        batch = batch._replace(obs=self.encoded(policy, batch.obs))
        options |= {"batch": batch, "mesh": self.mesh}
        return fit_critic(self.critic, *arguments, **options)


def build_value_optimizer(
    options: StepOptions, numbers: StepNumbers
) -> optax.GradientTransformation:
    """A critic's optimiser: Adam, or SGD with momentum."""
    if options.optimizer_type == "adam":
        return optax.adam(numbers.value_lr, eps=ADAM_EPSILON)
    momentum = numbers.sgd_momentum if options.with_momentum else None
    return optax.sgd(numbers.value_lr, momentum=momentum)


def fisher_policy(
    functions: Any,
    every: int,
    unravel: Callable[[jax.Array], Parameters],
    batch: Batch,
    rows: int | None = None,
) -> Callable[[jax.Array], Distribution] | None:
    """The policy at every k-th sample; None where that is each of them."""
    if every == 1:
        return None
    few = thinned(batch, every)
    return functions.policy_at(unravel, few.obs, few.action_mask, rows)


def in_turn(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """What two functions return that are run one after the other."""
    return first(), second()


def pure_update(
    functions: Any,
    options: StepOptions,
    state_before: TRPOState,
    batch: Any,
    orders: Any,
    numbers: StepNumbers,
    both: Callable[..., tuple] = in_turn,
) -> tuple[TRPOState, jax.Array]:
    """One update, a pure function that `update` and compiled training share.

    Args:
        functions: The networks and the step: `Functions`, or
            `recurrent.RecurrentFunctions`.
        options: What is computed.
        state_before: Weights and optimisers.
        batch: Samples, a `Batch` or what else the step takes.
        orders: [epochs, N] minibatch orders of the critics' epochs.
        numbers: Of this update; arrays, so that another number compiles nothing anew.
        both: Runs step and fit, which need nothing of each other, and returns what
            both return; see `trpo_jax.loop.two_devices`.

    Returns:
        The new state, or the old one if it would not be finite; and the report, its
        fields stacked in order so that they reach the host in one transfer; after them
        those of the cost's.
    """
    samples, rows = batch.samples, options.batch_chunk_size
    with matmul_precision(options.matmul_precision):
        theta, unravel = ravel_pytree(state_before.policy)

        def improve() -> PolicyStep:
            return functions.improve(
                functions.policy_at(unravel, samples.obs, samples.action_mask, rows),
                theta,
                batch,
                options,
                numbers,
                fisher_policy(functions, options.fisher_every, unravel, samples, rows),
            )

        def fit(policy: Parameters) -> list[tuple[Parameters, Any, ValueFit]]:
            optimizer = build_value_optimizer(options, numbers)
            return [
                functions.fit_critic(
                    policy, critic, optimizer, optimizer_state, batch=targets,
                    orders=orders, options=options, numbers=numbers,
                )
                for (critic, optimizer_state), targets in _critics(state_before, batch)
            ]  # fmt: skip

        if options.share_encoder:
            step = improve()
            # The encoder is the one that acts next.
            fitted = fit(unravel(step.theta))
        else:
            step, fitted = both(improve, lambda: fit(state_before.policy))
        policy = unravel(step.theta)
    new = TRPOState(policy, *fitted[0][:2], *(CriticState(*f[:2]) for f in fitted[1:]))
    return _outcome(new, state_before, step, [fit for _, _, fit in fitted])


def _outcome(
    new: TRPOState, before: TRPOState, step: PolicyStep, fits: list[ValueFit]
) -> tuple[TRPOState, jax.Array]:
    """The state that is committed, and what is said of it."""
    dtype = step.theta.dtype
    committed, step = commit(new, before, [fit.loss for fit in fits], step)
    report = report_of(UpdateReport, step, fits[0], dtype)
    if step.costs is not None:
        report = jnp.append(report, report_of(CostReport, step.costs, fits[1], dtype))
    return committed, report


def _critics(state: TRPOState, batch: Any) -> list[tuple[CriticState, Batch]]:
    """Each critic, and the samples with the returns that it is fitted to."""
    critics = [(CriticState(state.critic, state.optimizer), batch.samples)]
    if state.costs is not None:
        of_costs = batch.samples._replace(returns=batch.cost_returns)
        critics.append((state.costs, of_costs))
    return critics


# Compiled whole: nothing returns to the host but the result.
update = jax.jit(pure_update, static_argnums=(0, 1))


@functools.partial(jax.jit, static_argnums=(0, 1))
def act(
    functions: Functions,
    precision: str,
    policy: Parameters,
    critic: Parameters,
    obs: jax.Array,
    noise: jax.Array | None,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Action [B, act_dim], log-probability [B, 1] and value [B, 1], compiled."""
    with matmul_precision(precision):
        distribution = functions.policy(policy, obs, mask)
        value = functions.critic(critic, functions.encoded(policy, obs))
    action = distribution.mode() if noise is None else distribution.sample(noise)
    return action, distribution.log_prob(action), value


@functools.partial(jax.jit, static_argnums=(0, 1))
def sample(
    policy: Callable[..., Distribution],
    precision: str,
    parameters: Parameters,
    obs: jax.Array,
    noise: jax.Array | None,
    mask: jax.Array | None,
) -> jax.Array:
    """Actions [B, act_dim] alone, compiled."""
    with matmul_precision(precision):
        distribution = policy(parameters, obs, mask)
    return distribution.mode() if noise is None else distribution.sample(noise)


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluate(
    functions: Functions,
    precision: str,
    policy: Parameters,
    critic: Parameters,
    obs: jax.Array,
    actions: jax.Array,
    mask: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Log-probability [N, 1] of the actions and value [N, 1], compiled."""
    with matmul_precision(precision):
        log_probs = functions.policy(policy, obs, mask).log_prob(actions)
        return log_probs, functions.critic(critic, functions.encoded(policy, obs))


@functools.partial(jax.jit, static_argnums=(0, 1))
def value(
    functions: Functions,
    precision: str,
    policy: Parameters,
    critic: Parameters,
    obs: jax.Array,
) -> jax.Array:
    """The critic's value [B, 1], compiled."""
    with matmul_precision(precision):
        return functions.critic(critic, functions.encoded(policy, obs))


def commit(
    after: Any, before: Any, losses: Any, step: PolicyStep
) -> tuple[Any, PolicyStep]:
    """The state `after` and the step, or, if not all is finite, `before` and no step.

    Args:
        after: State after the update.
        before: State before it.
        losses: Of the critics' fits.
        step: Of the policy.
    """
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((after, losses))]
    sound = jnp.stack(finite).all() & (step.status != StepStatus.NON_FINITE)
    committed = jax.tree.map(
        lambda after, before: jnp.where(sound, after, before), after, before
    )
    return committed, discard_unless(sound, step)


def discard_unless(sound: jax.Array, step: PolicyStep) -> PolicyStep:
    """A step's numbers as they are reported: zeros unless it was `sound`, and kept."""

    def unless_undone(numbers: Any, names: Sequence[str]) -> dict[str, jax.Array]:
        return {name: jnp.where(sound, getattr(numbers, name), 0) for name in names}

    if step.costs is not None:
        undone = unless_undone(step.costs, DISCARDED_COST_FIELDS)
        step = step._replace(costs=step.costs._replace(**undone))
    return step._replace(
        status=jnp.where(sound, step.status, StepStatus.NON_FINITE),
        surrogate_after=jnp.where(sound, step.surrogate_after, step.surrogate_before),
        **unless_undone(step, DISCARDED_FIELDS),
    )


def report_of(kind: Any, step: Any, fit: ValueFit, dtype: jnp.dtype) -> jax.Array:
    """One update's numbers as a vector, which leaves the device at once.

    Args:
        kind: `UpdateReport`, or another of whose fields there is to be a number each.
        step: The step, which has the fields that are not the fit's.
        fit: The critic's.
        dtype: Of the vector.
    """
    fields = report_fields(kind, step, fit)
    return jnp.stack([jnp.asarray(field, dtype) for field in fields.values()])
