"""A policy as a function of its flat parameters, at fixed observations."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import PLAIN, Architecture
from trpo_jax import distributions
from trpo_jax.devices import reduction
from trpo_jax.devices.chunked import ChunkedPolicy
from trpo_jax.devices.reduction import Shard
from trpo_jax.distributions import Distribution
from trpo_jax.networks import mlp
from trpo_jax.networks.feedforward import Parameters


class FlatPolicy:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Its Jacobian is written by hand, for the architectures of which `networks/mlp.py`
    has it.

    Args:
        unravel: Flat parameters -> tree of arrays.
        obs: [n, obs_dim] observations.
        head: Distribution over actions.
        mask: [n, options] 0 where an option can't be taken; None for no mask.
        activation: Of the hidden layers.
    """

    def __init__(
        self,
        unravel: Callable[[jax.Array], Parameters],
        obs: Float[jax.Array, "n obs_dim"],
        head: Head,
        mask: jax.Array | None = None,
        activation: str = "tanh",
    ) -> None:
        self._unravel, self._obs, self._head = unravel, obs, head
        self._mask, self._activation = mask, activation

    def __call__(self, theta: Float[jax.Array, " p"]) -> Distribution:
        """The distribution at each observation."""
        tree = self._unravel(theta)
        layers = mlp.layers_of(tree)
        outputs = mlp.forward(layers, self._obs, self._activation)[-1]
        return distributions.from_network(
            self._head, outputs, tree.get("log_std"), self._mask
        )

    def metric_product(
        self, theta: Float[jax.Array, " p"]
    ) -> Callable[[jax.Array], jax.Array]:
        """v -> J' M J v, J the Jacobian at `theta` and M the distribution's metric.

        What the samples at hand add to it; see `fisher.py`.
        """
        tree = self._unravel(theta)
        log_std, layers = tree.get("log_std"), mlp.layers_of(tree)
        outputs, tape = mlp.record(layers, self._obs, self._activation)
        rows = outputs.shape[0]
        each = jnp.asarray(reduction.row_weight(rows), outputs.dtype)
        weights = jnp.broadcast_to(each, (rows, 1))
        of_rows = [outputs] if self._mask is None else [outputs, self._mask]

        def product(v: jax.Array) -> jax.Array:
            tangent = self._unravel(v)

            def metric(
                d_outputs: jax.Array, weights: jax.Array, *given: jax.Array
            ) -> tuple[jax.Array, jax.Array | None]:
                outputs, *mask = given
                at = distributions.from_network(self._head, outputs, log_std, *mask)
                push, pull = distributions.jacobian(self._head, outputs, log_std, *mask)
                u = push(d_outputs, tangent.get("log_std"))
                m_u = distributions.fisher_metric(at, u)
                with reduction.sharded(Shard(weights, across=False)):
                    return pull(reduction.weighted(m_u))

            gradients, d_log_std = mlp.push_and_pull(
                layers,
                tape,
                mlp.layers_of(tangent),
                metric,
                weights,
                of_rows,
                self._activation,
            )
            return _flat(d_log_std, gradients)

        return product


def _flat(log_std: jax.Array | None, layers: Sequence[mlp.Layer]) -> jax.Array:
    """The vector [p] of a tree with these arrays."""
    tree: Parameters = {
        "layers": {
            i: {"kernel": layer.weight, "bias": layer.bias}
            for i, layer in enumerate(layers)
        }
    }
    if log_std is not None:
        tree["log_std"] = log_std
    return ravel_pytree(tree)[0]


def flat_policy(
    policy: Callable[..., Distribution],
    unravel: Callable[[jax.Array], Parameters],
    obs: Float[jax.Array, "n obs_dim"],
    head: Head,
    mask: jax.Array | None = None,
    architecture: Architecture | None = PLAIN,
    rows: int | None = None,
) -> Callable[[jax.Array], Distribution]:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Args:
        policy: (Parameters, observations, mask) -> distribution.
        unravel: Flat parameters -> tree of arrays.
        obs: [n, obs_dim] observations.
        head: Distribution over actions.
        mask: [n, options] 0 where an option can't be taken; None for no mask.
        architecture: Of the policy; None if it is not a `Policy`.
        rows: At most so many at a time; None for all.

    Returns:
        A `FlatPolicy` where it can be one.
    """
    if rows is not None and len(obs) > rows:

        def policy_at(obs: jax.Array, mask: jax.Array | None) -> Callable:
            return flat_policy(policy, unravel, obs, head, mask, architecture)

        return ChunkedPolicy(policy_at, obs, mask, rows)
    if architecture is not None and architecture.by_hand:
        return FlatPolicy(unravel, obs, head, mask, architecture.activation)
    return lambda theta: policy(unravel(theta), obs, mask)
