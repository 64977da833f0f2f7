"""Products with the damped Fisher matrix, by two independent routes.

Both linearise once and are then called for each conjugate-gradient iteration. They
are equal at the old parameters, where the gradient of KL vanishes.
"""

from collections.abc import Callable

import jax
from jaxtyping import Float

from trpo_jax.devices.means import weighted
from trpo_jax.distributions import Distribution
from trpo_jax.policy_step.objective import mean_kl


PolicyFunction = Callable[[jax.Array], Distribution]
Product = Callable[[jax.Array], jax.Array]


def gauss_newton_product(
    policy: PolicyFunction,
    theta: Float[jax.Array, " p"],
    damping: float | jax.Array,
    weights: Float[jax.Array, "n 1"] | None = None,
) -> Product:
    """v -> (J' M J + damping) v, with J the Jacobian of the policy's outputs.

    M is the Fisher matrix of the distribution in its own parameters, so the product
    is positive semidefinite by construction (Schulman et al. 2015, appendix C).

    Args:
        policy: Flat parameters -> distribution at each sample.
        theta: Flat parameters.
        damping: Multiple of the identity that is added.
        weights: Of each sample; None where all count alike.
    """
    distribution, jvp = jax.linearize(policy, theta)
    vjp = jax.linear_transpose(jvp, theta)

    def product(v: jax.Array) -> jax.Array:
        metric_times_jvp = distribution.fisher_metric(jvp(v))
        (f_v,) = vjp(weighted(metric_times_jvp, weights))
        return f_v + damping * v

    return product


def kl_hessian_product(
    policy: PolicyFunction,
    theta: Float[jax.Array, " p"],
    damping: float | jax.Array,
    weights: Float[jax.Array, "n 1"] | None = None,
) -> Product:
    """v -> (H + damping) v, with H the Hessian of mean KL(old || new) at the old.

    Forward over reverse: the derivative along v of the gradient of KL.

    Args:
        policy: Flat parameters -> distribution at each sample.
        theta: Flat parameters.
        damping: Multiple of the identity that is added.
        weights: Of each sample; None where all count alike.
    """
    old = jax.lax.stop_gradient(policy(theta))
    kl_gradient = jax.grad(lambda candidate: mean_kl(old, policy(candidate), weights))
    _, hessian = jax.linearize(kl_gradient, theta)

    def product(v: jax.Array) -> jax.Array:
        return hessian(v) + damping * v

    return product


FISHER_PRODUCTS = {
    "gauss_newton": gauss_newton_product,
    "kl_hessian": kl_hessian_product,
}
