"""What a policy step leaves for the next one."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from trpo.config import TRPOConfig


class StepMemory(NamedTuple):
    """Arrays that are part of the agent's state; None where no option needs them.

    Attributes:
        cg_solution: [p] conjugate gradient's last solution.
        damping: [] multiple of the identity that the next Fisher product adds.
    """

    cg_solution: Float[Tensor, " p"] | None = None
    damping: Float[Tensor, ""] | None = None


NO_MEMORY = StepMemory()


def initial_memory(config: TRPOConfig, theta: Float[Tensor, " p"]) -> StepMemory:
    """The memory before the first step.

    Args:
        config: Says what is remembered.
        theta: Parameters, for the memory's size, dtype and device.
    """
    return NO_MEMORY
