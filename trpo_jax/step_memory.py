"""State that a policy step leaves for the next one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.config.run import TRPOConfig
from trpo.data.report import StepStatus


class StepMemory(NamedTuple):
    """Arrays that are part of the agent's state; None where no option needs them.

    Attributes:
        cg_solution: [p] conjugate gradient's last solution.
        damping: [] multiple of the identity that the next Fisher product adds.
    """

    cg_solution: Float[jax.Array, " p"] | None = None
    damping: Float[jax.Array, ""] | None = None


NO_MEMORY = StepMemory()
# Agreement below and above which damping changes, its factor, and how far it goes.
POOR, GOOD = 0.25, 0.75
DAMPING_FACTOR, DAMPING_RANGE = 1.5, 1e3
# Of steps whose direction was found, whether or not one was taken.
SOLVED = (StepStatus.ACCEPTED, StepStatus.LINE_SEARCH_EXHAUSTED)


def initial_memory(config: TRPOConfig, theta: Float[jax.Array, " p"]) -> StepMemory:
    """The memory before the first step.

    Args:
        config: Says what is remembered.
        theta: Parameters, for the memory's size, dtype and device.
    """
    return StepMemory(
        jnp.zeros_like(theta) if config.cg_warm_start else None,
        jnp.asarray(config.cg_damping, theta.dtype)
        if config.adaptive_damping
        else None,
    )


def damping_of(config: TRPOConfig, memory: StepMemory) -> float | jax.Array:
    """Damping of the Fisher matrix: the adapted one, or the configured one."""
    return config.cg_damping if memory.damping is None else memory.damping


def remember(
    memory: StepMemory,
    config: TRPOConfig,
    solution: Float[jax.Array, " p"],
    agreement: jax.Array,
    status: jax.Array,
) -> StepMemory:
    """The memory after a step.

    Args:
        memory: Before it.
        config: Says how.
        solution: Conjugate gradient's.
        agreement: Actual over predicted improvement; 0 where none was accepted.
        status: Of the step.
    """
    kept, damping = memory
    if kept is not None:
        solved = (status == SOLVED[0]) | (status == SOLVED[1])
        kept = jnp.where(solved, solution, kept)
    if damping is not None:
        adapted = adapted_damping(damping, agreement, config.cg_damping)
        damping = jnp.where(status == StepStatus.ZERO_GRADIENT, damping, adapted)
    return StepMemory(kept, damping)


def adapted_damping(
    damping: Float[jax.Array, ""], agreement: jax.Array, first: float | jax.Array
) -> Float[jax.Array, ""]:
    """Levenberg and Marquardt's rule: more where the local model was wrong.

    Times 3/2 where agreement < 1/4, over 3/2 where it is > 3/4, and at most
    `DAMPING_RANGE` times the first or that much less.
    """
    raised = jnp.where(agreement < POOR, damping * DAMPING_FACTOR, damping)
    changed = jnp.where(agreement > GOOD, damping / DAMPING_FACTOR, raised)
    return jnp.clip(changed, first / DAMPING_RANGE, first * DAMPING_RANGE)
