"""State that a policy step leaves for the next one."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo.config.run import TRPOConfig
from trpo.data.report import StepStatus


class StepMemory(NamedTuple):
    """Arrays that are part of the agent's state; None where no option needs them.

    Attributes:
        cg_solution: [p] conjugate gradient's last solution.
        damping: [] multiple of the identity that the next Fisher product adds.
    """

    cg_solution: Float[Tensor, " p"] | None = None
    damping: Float[Tensor, ""] | None = None


NO_MEMORY = StepMemory()
# Agreement below and above which damping changes, its factor, and how far it goes.
POOR, GOOD = 0.25, 0.75
DAMPING_FACTOR, DAMPING_RANGE = 1.5, 1e3
# Of steps whose direction was found, whether or not one was taken.
SOLVED = (StepStatus.ACCEPTED, StepStatus.LINE_SEARCH_EXHAUSTED)


def initial_memory(config: TRPOConfig, theta: Float[Tensor, " p"]) -> StepMemory:
    """The memory before the first step.

    Args:
        config: Says what is remembered.
        theta: Parameters, for the memory's size, dtype and device.
    """
    return StepMemory(
        torch.zeros_like(theta) if config.cg_warm_start else None,
        theta.new_full((), config.cg_damping) if config.adaptive_damping else None,
    )


def damping_of(config: TRPOConfig, memory: StepMemory) -> float | Tensor:
    """Damping of the Fisher matrix: the adapted one, or the configured one."""
    return config.cg_damping if memory.damping is None else memory.damping


def remember(
    memory: StepMemory,
    config: TRPOConfig,
    solution: Float[Tensor, " p"],
    agreement: Tensor,
    status: StepStatus,
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
    if kept is not None and status in SOLVED:
        kept = solution
    if damping is not None and status != StepStatus.ZERO_GRADIENT:
        damping = adapted_damping(damping, agreement, config.cg_damping)
    return StepMemory(kept, damping)


def adapted_damping(
    damping: Float[Tensor, ""], agreement: Tensor, first: float
) -> Float[Tensor, ""]:
    """Levenberg and Marquardt's rule: more where the local model was wrong.

    Times 3/2 where agreement < 1/4, over 3/2 where it is > 3/4, and at most
    `DAMPING_RANGE` times the first or that much less.
    """
    factor = 1.0 if agreement >= POOR else DAMPING_FACTOR
    damping = damping * factor
    damping = damping / DAMPING_FACTOR if agreement > GOOD else damping
    return damping.clamp(first / DAMPING_RANGE, first * DAMPING_RANGE)
