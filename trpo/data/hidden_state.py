"""Hidden states of recurrent networks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Memory(NamedTuple):
    """Hidden states of B environments; zeros where an episode begins.

    Attributes:
        policy: [B, states] of the policy's cell.
        critic: [B, states] of the critic's cell.
    """

    policy: Any
    critic: Any

    def forget(self, starts: np.ndarray) -> "Memory":
        """The same with zeros where `starts` [B]; of NumPy arrays."""
        gone = np.asarray(starts, dtype=bool)[:, None]
        return Memory(*(np.where(gone, np.zeros_like(a), a) for a in self))

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of both under the names of a checkpoint."""
        return {f"{name}_memory": a.copy() for name, a in self._asdict().items()}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> "Memory | None":
        """Hidden states from a checkpoint's arrays; None if they are not there."""
        names = [f"{name}_memory" for name in cls._fields]
        states = [np.array(state[name]) for name in names if name in state]
        return cls(*states) if len(states) == len(names) else None
