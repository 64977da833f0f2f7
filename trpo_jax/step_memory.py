"""What a policy step leaves for the next one."""

from typing import NamedTuple

import jax
from jaxtyping import Float

from trpo.config import TRPOConfig


class StepMemory(NamedTuple):
    """Arrays that are part of the agent's state; None where no option needs them.

    Attributes:
        cg_solution: [p] conjugate gradient's last solution.
        damping: [] multiple of the identity that the next Fisher product adds.
    """

    cg_solution: Float[jax.Array, " p"] | None = None
    damping: Float[jax.Array, ""] | None = None


NO_MEMORY = StepMemory()


def initial_memory(config: TRPOConfig, theta: Float[jax.Array, " p"]) -> StepMemory:
    """The memory before the first step.

    Args:
        config: Says what is remembered.
        theta: Parameters, for the memory's size, dtype and device.
    """
    return NO_MEMORY
