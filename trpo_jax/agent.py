"""`TRPOAgent` in JAX: the stateful shell round the pure parts."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from trpo.agent_base import AgentBase
from trpo.config import TRPOConfig
from trpo.types import Batch, StepStatus, UpdateReport
from trpo_jax import distributions, state
from trpo_jax.conjugate_gradient import conjugate_gradient
from trpo_jax.device import matmul_precision, resolve_device
from trpo_jax.distributions import DiagonalGaussian
from trpo_jax.networks import Parameters, critic_function, policy_function
from trpo_jax.objective import Surrogate, surrogate
from trpo_jax.policy_update import PolicyStep, policy_step
from trpo_jax.value_update import ValueFit, fit_critic


# torch's default of 1e-8 lets the first steps after a plateau grow too large.
ADAM_EPSILON = 1e-5


class TRPOState(NamedTuple):
    """All arrays that an update reads and writes."""

    policy: Parameters
    critic: Parameters
    optimizer: Any


class TRPOAgent(AgentBase):
    """Trust-region policy optimisation for continuous actions.

    Schulman et al. 2015, "Trust Region Policy Optimization". Arguments and methods are
    those of `trpo.agent_base.AgentBase`, the same in both backends.
    """

    framework = "jax"

    def _build(self, device: Any, weights: dict[str, np.ndarray]) -> None:
        if self.dtype == np.float64 and not jax.config.read("jax_enable_x64"):
            raise ValueError(
                "`dtype`: expected 'float32', got 'float64' while JAX's 64-bit mode is "
                "off. Set the environment variable JAX_ENABLE_X64=1 before starting."
            )
        self.device = resolve_device(device)
        config = self.config
        self._functions = Functions(
            policy_function(self.obs_dim, config.policy_layer_sizes, self.act_dim),
            critic_function(self.obs_dim, config.critic_layer_sizes),
        )
        policy = state.tree_from_arrays(weights, "policy.")
        critic = state.tree_from_arrays(weights, "value.")
        optimizer = self._build_value_optimizer().init(critic)
        self.state: TRPOState = self._put(TRPOState(policy, critic, optimizer))

    def _build_value_optimizer(self) -> optax.GradientTransformation:
        """The critic's optimiser: Adam, or SGD with momentum."""
        return build_value_optimizer(self.config)

    @property
    def policy(self) -> Parameters:
        """The policy's tree of arrays."""
        return self.state.policy

    @property
    def critic(self) -> Parameters:
        """The critic's tree of arrays."""
        return self.state.critic

    def _put(self, tree: Any) -> Any:
        return jax.device_put(tree, self.device)

    def _is_native(self, array: Any) -> bool:
        return isinstance(array, jax.Array)

    def _to_native(self, array: Any) -> jax.Array:
        return self._put(array.astype(self.dtype))

    def _to_numpy(self, array: jax.Array) -> np.ndarray:
        return np.asarray(array)

    def _all_finite(self, array: jax.Array) -> bool:
        return bool(jnp.isfinite(array).all())

    def _forward(
        self, obs: Any, noise: np.ndarray | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        if noise is not None:
            noise = noise.astype(self.dtype)
        return _act(
            self._functions,
            self.config.matmul_precision,
            self.state.policy,
            self.state.critic,
            obs.astype(self.dtype),
            noise,
        )

    def _value(self, obs: Any) -> jax.Array:
        return _value(
            self._functions.critic,
            self.config.matmul_precision,
            self.state.critic,
            obs.astype(self.dtype),
        )

    def _policy_objective(
        self,
        obs: jax.Array,
        actions: jax.Array,
        old_log_probs: jax.Array,
        advantages: jax.Array,
    ) -> Surrogate:
        """Surrogate [], ratio [N, 1] and log-ratio [N, 1] at the present policy."""
        columns = (old_log_probs.reshape(-1, 1), advantages.reshape(-1, 1))
        batch = Batch(obs, actions, columns[0], columns[1] * 0.0, columns[1])
        return surrogate(self._functions.policy(self.state.policy, obs), batch)

    def _update(self, batch: Batch, orders: np.ndarray) -> UpdateReport:
        self.state, report = update(
            self._functions, self.config, self.state, batch, self._put(orders)
        )
        return UpdateReport(*np.asarray(report).tolist())

    def _get_learned_state(self) -> dict[str, np.ndarray]:
        return {
            **state.tree_arrays(self.state.policy, "policy."),
            **state.tree_arrays(self.state.critic, "value."),
            **state.optimizer_arrays(self.state.optimizer),
        }

    def _set_learned_state(self, arrays: dict[str, np.ndarray]) -> None:
        self.state = self._put(
            TRPOState(
                state.tree_from_arrays(arrays, "policy."),
                state.tree_from_arrays(arrays, "value."),
                state.optimizer_from_arrays(self.state.optimizer, arrays),
            )
        )


class Functions(NamedTuple):
    """The networks as pure functions; hashed by identity, so cheap to jit on."""

    policy: Callable[[Parameters, jax.Array], DiagonalGaussian]
    critic: Callable[[Parameters, jax.Array], jax.Array]


def build_value_optimizer(config: TRPOConfig) -> optax.GradientTransformation:
    """The critic's optimiser: Adam, or SGD with momentum."""
    if config.optimizer_type == "adam":
        return optax.adam(config.value_lr, eps=ADAM_EPSILON)
    return optax.sgd(config.value_lr, momentum=config.sgd_momentum or None)


@functools.partial(jax.jit, static_argnums=(0, 1))
def update(
    functions: Functions,
    config: TRPOConfig,
    state_before: TRPOState,
    batch: Batch,
    orders: jax.Array,
) -> tuple[TRPOState, jax.Array]:
    """One update, compiled whole: nothing returns to the host but the result.

    Args:
        functions: The networks.
        config: Hyperparameters.
        state_before: Weights and optimiser.
        batch: Samples.
        orders: [epochs, N] minibatch orders of the critic's epochs.

    Returns:
        The new state, or the old one if it would not be finite; and the report, its
        fields stacked in order so that they reach the host in one transfer.
    """
    with matmul_precision(config.matmul_precision):
        theta, unravel = ravel_pytree(state_before.policy)
        step = policy_step(
            lambda flat: functions.policy(unravel(flat), batch.obs),
            theta,
            batch,
            config,
        )
        critic, optimizer_state, fit = fit_critic(
            functions.critic,
            state_before.critic,
            build_value_optimizer(config),
            state_before.optimizer,
            batch,
            orders,
            minibatch_size=config.value_minibatch_size,
            max_grad_norm=config.max_grad_norm,
        )
    new = TRPOState(unravel(step.theta), critic, optimizer_state)
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(new)]
    sound = jnp.stack(finite).all() & (step.status != StepStatus.NON_FINITE)
    committed = jax.tree.map(
        lambda after, before: jnp.where(sound, after, before), new, state_before
    )
    status = jnp.where(sound, step.status, StepStatus.NON_FINITE)
    return committed, _report(step._replace(status=status), fit)


def _report(step: PolicyStep, fit: ValueFit) -> jax.Array:
    """One update's numbers, from its two parts, in `UpdateReport`'s order."""
    named = {"value_loss": fit.loss, "value_mae": fit.mae}
    named["explained_variance"] = fit.explained_variance
    for name in UpdateReport._fields:
        if name not in named:
            named[name] = getattr(step, name)
    report = UpdateReport(**named)
    return jnp.stack([jnp.asarray(value, step.theta.dtype) for value in report])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _act(
    functions: Functions,
    precision: str,
    policy: Parameters,
    critic: Parameters,
    obs: jax.Array,
    noise: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    with matmul_precision(precision):
        gaussian, value = functions.policy(policy, obs), functions.critic(critic, obs)
    action = gaussian.mean
    if noise is not None:
        action = distributions.sample(gaussian, noise)
    return action, distributions.log_prob(gaussian, action), value


@functools.partial(jax.jit, static_argnums=(0, 1))
def _value(
    critic_apply: Callable, precision: str, critic: Parameters, obs: jax.Array
) -> jax.Array:
    with matmul_precision(precision):
        return critic_apply(critic, obs)


# The original agent's helpers, under its names and signatures, on trees.


def _flat_params(module: Parameters) -> jax.Array:
    """A tree's arrays as one vector [p], in the tree's own order."""
    return ravel_pytree(module)[0]


def _set_flat_params(module: Parameters, flat_params: jax.Array) -> Parameters:
    """A tree like `module` with its arrays taken from a vector [p]."""
    return ravel_pytree(module)[1](flat_params)


def _flat_grads(grads: Sequence | Parameters, params: Parameters) -> jax.Array:
    """Gradients as one vector [p]; zeros where a parameter has none."""
    filled = jax.tree.map(
        lambda param, grad: jnp.zeros_like(param) if grad is None else grad,
        params,
        grads,
        is_leaf=lambda leaf: leaf is None,
    )
    return ravel_pytree(filled)[0]


def _conjugate_gradient(
    Avp: Callable[[jax.Array], jax.Array],
    b: jax.Array,
    nsteps: int,
    residual_tol: float = 1e-10,
) -> jax.Array:
    """Solution [p] of A x = b; stops when the squared residual is at most the bound."""
    return conjugate_gradient(Avp, b, nsteps, residual_tol).x


def _kl_old_to_new(
    old_mean: jax.Array,
    old_log_std: jax.Array,
    new_mean: jax.Array,
    new_log_std: jax.Array,
) -> jax.Array:
    """KL(old || new) of each sample, [N, 1]."""
    return distributions.kl_old_to_new(
        DiagonalGaussian(old_mean, old_log_std), DiagonalGaussian(new_mean, new_log_std)
    )
