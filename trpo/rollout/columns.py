"""The columns of a rollout, [T, B, …] each, written row by row."""

from typing import Any

import numpy as np

from trpo.rollout.transitions import Transition


FLAGS = ("terminated", "truncated", "dropped", "restarted")


class Columns:
    """Arrays of T steps of B environments, made as the first of them is written.

    Args:
        num_steps: T.
        num_envs: B.
    """

    def __init__(self, num_steps: int, num_envs: int) -> None:
        shape = self._shape = (num_steps, num_envs)
        self._arrays: dict[str, np.ndarray] = {}
        self.flags = {name: np.zeros(shape, dtype=bool) for name in FLAGS}
        self.valid = np.ones(shape, dtype=bool)
        self.next_values = np.zeros(shape)
        self.ended_at: list[int] = []
        """Of each episode that has ended, the step that ended it."""

    def write(self, t: int, values: dict[str, np.ndarray | None]) -> None:
        """Step t of the columns of these names; None is left out."""
        arrays = self._arrays
        for name, rows in values.items():
            if rows is not None:
                if name not in arrays:
                    shape = (*self._shape, *rows.shape[1:])
                    arrays[name] = np.empty(shape, rows.dtype)
                arrays[name][t] = rows

    def write_flags(self, t: int, step: Transition, ended: int) -> None:
        """What a step that is not plain has to say; of others there is nothing.

        Args:
            t: The step.
            step: What it led to.
            ended: Episodes that have ended in the rollout, with this step.
        """
        self.ended_at += [t] * (ended - len(self.ended_at))
        for name, column in self.flags.items():
            column[t] = getattr(step, name)
        self.valid[t] = step.valid

    def __getitem__(self, name: str) -> Any:
        """The column of a name; None if it was always left out."""
        return self._arrays.get(name)
