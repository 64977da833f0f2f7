"""The Jacobian of any policy, by automatic differentiation.

That of the plain tanh network is written by hand (`networks/mlp.py`), which is faster;
this one serves every other.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import Float

from trpo_jax.distributions import Distribution


class Linearization(NamedTuple):
    """A policy at its parameters, and the Jacobian J of its outputs there.

    Attributes:
        distribution: at each sample.
        push: v [p] -> J v, shaped like `distribution`.
        pull: u, shaped like `distribution` -> J'u [p].
    """

    distribution: Distribution
    push: Callable[[jax.Array], Distribution]
    pull: Callable[[Distribution], jax.Array]


def linearize(
    policy: Callable[[jax.Array], Distribution], theta: Float[jax.Array, " p"]
) -> Linearization:
    """The policy's outputs at `theta` and their Jacobian, kept for all products.

    `jvp` with the forward pass done once, and its transpose.

    Args:
        policy: Flat parameters -> distribution at each sample.
        theta: Flat parameters.
    """
    distribution, push = jax.linearize(policy, theta)
    transpose = jax.linear_transpose(push, theta)
    return Linearization(distribution, push, lambda u: transpose(u)[0])
