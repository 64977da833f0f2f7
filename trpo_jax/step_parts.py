"""The parts that a trust-region step is composed of, each a row of a table.

`policy_update.policy_step` puts them together and asks for no option: another way to
do one of them is another row, and the configuration says which row it is.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.config import TRPOConfig
from trpo_jax.conjugate_gradient import CGResult, conjugate_gradient
from trpo_jax.fisher import FISHER_PRODUCTS, Product
from trpo_jax.line_search import LINE_SEARCHES, LineSearchResult
from trpo_jax.objective import Objective, objective_of
from trpo_jax.preconditioned_cg import preconditioned_conjugate_gradient
from trpo_jax.step_memory import StepMemory


class LinearSystem(NamedTuple):
    """(F + damping) x = b, and what a solver may begin with.

    Attributes:
        product: v -> (F + damping) v.
        b: [p] gradient over its norm.
        memory: of the step before.
    """

    product: Product
    b: Float[jax.Array, " p"]
    memory: StepMemory


class StepParts(NamedTuple):
    """What a step does, in this order.

    Attributes:
        objective: what is improved.
        curvature: (policy, theta, damping) -> product with the damped Fisher matrix.
        solver: solves the system of equations for the direction x.
        scaling: (x, x'(F + damping)x, radius) -> the full step.
        search: finds the fraction of the full step that is taken.
    """

    objective: Objective
    curvature: Callable[..., Product]
    solver: Callable[[LinearSystem, TRPOConfig], CGResult]
    scaling: Callable[..., jax.Array]
    search: Callable[..., LineSearchResult]


def step_parts(config: TRPOConfig) -> StepParts:
    """The parts that a configuration asks for."""
    return StepParts(
        objective=objective_of(config),
        curvature=FISHER_PRODUCTS[config.fisher_product],
        solver=SOLVERS[bool(config.cg_warm_start)],
        scaling=to_the_border,
        search=LINE_SEARCHES[config.line_search],
    )


def solve_from_zero(system: LinearSystem, config: TRPOConfig) -> CGResult:
    """Plain conjugate gradient."""
    return conjugate_gradient(
        system.product, system.b, config.cg_iters, config.cg_residual_tol
    )


def solve_from_last(system: LinearSystem, config: TRPOConfig) -> CGResult:
    """Conjugate gradient from a share of the last step's solution."""
    last = system.memory.cg_solution
    return preconditioned_conjugate_gradient(
        system.product,
        system.b,
        config.cg_iters,
        config.cg_residual_tol,
        start=None if last is None else config.cg_warm_start * last,
    )


SOLVERS = {False: solve_from_zero, True: solve_from_last}


def to_the_border(
    x: Float[jax.Array, " p"], x_f_x: jax.Array, target_kl: float | jax.Array
) -> Float[jax.Array, " p"]:
    """S = x sqrt(2 target_kl / x'(F + damping)x), so that s'(F + damping)s / 2 is it.

    Schulman et al. 2015, appendix C.
    """
    return x * jnp.sqrt(2.0 * target_kl / x_f_x)
