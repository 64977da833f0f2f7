"""The original agent's helpers, under its names and signatures, on trees."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from trpo_jax.agent.state import flat_params, set_flat_params
from trpo_jax.distributions.gaussian import DiagonalGaussian
from trpo_jax.networks.feedforward import (
    Parameters,
)
from trpo_jax.solvers.conjugate_gradient import conjugate_gradient


_flat_params = flat_params
_set_flat_params = set_flat_params


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
    old = DiagonalGaussian(old_mean, old_log_std)
    return old.kl(DiagonalGaussian(new_mean, new_log_std))
