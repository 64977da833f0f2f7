"""Products with the damped Fisher matrix, by two independent routes.

Both linearise once and are then called for each conjugate-gradient iteration. They
are equal at the old parameters, where the gradient of KL vanishes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Float

from trpo_jax import distributions
from trpo_jax.devices import reduction
from trpo_jax.devices.chunked import ChunkedPolicy
from trpo_jax.distributions import Distribution
from trpo_jax.policy_step.flat_policy import FlatPolicy
from trpo_jax.policy_step.objective import mean_kl


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


PolicyFunction = Callable[[jax.Array], Distribution]
Product = Callable[[jax.Array], jax.Array]


def metric_product(policy: PolicyFunction, theta: Float[jax.Array, " p"]) -> Product:
    """v -> J' M J v of the samples at hand, linearised once.

    A `FlatPolicy` knows its own; that of any other function is made of `linearize`'s.
    """
    if isinstance(policy, FlatPolicy):
        return policy.metric_product(theta)
    distribution, push, pull = linearize(policy, theta)

    def product(v: jax.Array) -> jax.Array:
        # v -> J v -> M J v -> J' M J v
        m_j_v = distributions.fisher_metric(distribution, push(v))
        return pull(reduction.weighted(m_j_v))

    return product


def gauss_newton_product(
    policy: PolicyFunction,
    theta: Float[jax.Array, " p"],
    damping: float | jax.Array,
) -> Product:
    """v -> (J' M J + damping) v, with J the Jacobian of the policy's outputs.

    M is the Fisher matrix of the distribution in its own parameters, so the product
    is positive semidefinite by construction (Schulman et al. 2015, appendix C).

    Args:
        policy: Flat parameters -> distribution at each sample.
        theta: Flat parameters.
        damping: Multiple of the identity that is added.
    """
    times = metric_product(policy, theta)

    def product(v: jax.Array) -> jax.Array:
        return reduction.total(times(v)) + damping * v

    return product


def kl_hessian_product(
    policy: PolicyFunction,
    theta: Float[jax.Array, " p"],
    damping: float | jax.Array,
) -> Product:
    """v -> (H + damping) v, with H the Hessian of mean KL(old || new) at the old.

    Forward over reverse: the derivative along v of the gradient of KL.

    Args:
        policy: Flat parameters -> distribution at each sample.
        theta: Flat parameters.
        damping: Multiple of the identity that is added.
    """
    old = jax.lax.stop_gradient(policy(theta))
    kl_gradient = jax.grad(lambda candidate: mean_kl(old, policy(candidate)))
    _, hessian = jax.linearize(kl_gradient, theta)

    def product(v: jax.Array) -> jax.Array:
        return reduction.total(hessian(v)) + damping * v

    return product


def accumulated(build: Callable[..., Product]) -> Callable[..., Product]:
    """`build`, a function above, also for a policy in chunks.

    The product of each chunk is built anew each time, and only their sum is kept.
    """

    def build_for_any(
        policy: PolicyFunction, theta: Float[jax.Array, " p"], damping: Any
    ) -> Product:
        if not isinstance(policy, ChunkedPolicy):
            return build(policy, theta, damping)

        def product(v: jax.Array) -> jax.Array:
            f_v = policy.total(lambda part: build(part, theta, 0.0)(v))
            return reduction.total(f_v) + damping * v

        return product

    return build_for_any


FISHER_PRODUCTS = {
    "gauss_newton": accumulated(gauss_newton_product),
    "kl_hessian": accumulated(kl_hessian_product),
}
