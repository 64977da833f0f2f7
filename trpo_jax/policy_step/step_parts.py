"""The parts that a trust-region step is composed of, each a row of a table.

`policy_step` in `step.py` puts them together. Each way to do one of them is a row of a
table, and the configuration names the row.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.config.run import TRPOConfig
from trpo_jax.policy_step.fisher import FISHER_PRODUCTS, Product
from trpo_jax.policy_step.objective import Objective, objective_of
from trpo_jax.preconditioned_cg import preconditioned_conjugate_gradient
from trpo_jax.solvers.conjugate_gradient import CGResult, conjugate_gradient
from trpo_jax.solvers.line_search import LINE_SEARCHES, LineSearchResult
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
    """The parts of a step, in the order in which it uses them.

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
        solver=solve_from_memory if config.cg_warm_start else solve_plain,
        scaling=scale_to_radius,
        search=LINE_SEARCHES[config.line_search],
    )


def solve_plain(system: LinearSystem, config: TRPOConfig) -> CGResult:
    """Plain conjugate gradient."""
    return conjugate_gradient(
        system.product, system.b, config.cg_iters, config.cg_residual_tol
    )


def solve_from_memory(system: LinearSystem, config: TRPOConfig) -> CGResult:
    """Conjugate gradient from a share of the last solution."""
    last, share = system.memory.cg_solution, config.cg_warm_start
    return preconditioned_conjugate_gradient(
        system.product,
        system.b,
        config.cg_iters,
        config.cg_residual_tol,
        start=None if last is None else share * last,
    )


def scale_to_radius(
    x: Float[jax.Array, " p"], x_f_x: jax.Array, target_kl: float | jax.Array
) -> Float[jax.Array, " p"]:
    """s = x sqrt(2 target_kl / x'(F + damping)x): s'(F + damping)s / 2 is target_kl.

    Schulman et al. 2015, appendix C.
    """
    return x * jnp.sqrt(2.0 * target_kl / x_f_x)
