"""The episodes under way: what a run has to know of them to go on, or to resume."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from trpo.data.rollout import Episode
from trpo.rollout.transitions import Transition
from trpo.spaces.spaces import PolicySpec


# An open episode longer than this is not recorded, and restarts after a resume.
MAX_REPLAY_STEPS = 10_000


class OpenEpisodes(NamedTuple):
    """Episodes under way in B environments; arrays are written to in place.

    Attributes:
        numbers: [B] of each environment's episode, from 0.
        returns: [B] sum of its rewards so far.
        lengths: [B] steps so far.
        replayable: [B] whether `actions` reaches back to its beginning.
        actions: [B, …] sent at each step, newest last, as far back as is needed.
        ended: episodes that have ended in the present rollout.
        costs: [B] sum of what its steps have cost so far; None where costs are not
            read.
    """

    numbers: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    replayable: np.ndarray
    actions: list[np.ndarray]
    ended: list[Episode]
    costs: np.ndarray | None = None

    @classmethod
    def of(cls, size: int, costs: bool = False) -> "OpenEpisodes":
        """First episodes of `size` environments, just reset."""
        counts = (np.zeros(size, np.int64), np.zeros(size), np.zeros(size, np.int64))
        of_costs = np.zeros(size) if costs else None
        return cls(*counts, np.ones(size, dtype=bool), [], [], of_costs)

    def copy(self) -> "OpenEpisodes":
        """The same, which does not follow what comes."""
        fields: Any = (None if field is None else field.copy() for field in self)
        return OpenEpisodes(*fields)

    def count(self, step: Transition) -> None:
        """Update the sums and note which episodes ended."""
        np.add(self.returns, step.rewards, out=self.returns)
        np.add(self.lengths, step.valid, out=self.lengths)
        if self.costs is not None:
            self.costs[...] += step.costs
        if step.plain:
            return
        done = step.terminated | step.truncated
        costs = np.zeros_like(self.returns) if self.costs is None else self.costs
        whole = done & ~step.dropped & ~step.restarted
        self.ended.extend(
            Episode(
                float(self.returns[i]), int(self.lengths[i]), float(costs[i]),
                step.successes.get(i),
            )
            for i in map(int, np.flatnonzero(whole))
        )  # fmt: skip
        self.drop(done)

    def drop(self, chosen: np.ndarray) -> None:
        """Go on with the next episodes of the environments `chosen` [B]."""
        if self.costs is not None:
            self.costs[chosen] = 0.0
        self.returns[chosen] = 0.0
        self.lengths[chosen] = 0
        self.numbers[...] += chosen
        self.replayable[...] |= chosen

    def forget_finished(self) -> None:
        """Keep the actions of open episodes only."""
        self.replayable[...] &= self.lengths <= MAX_REPLAY_STEPS
        keep = int(np.max(self.lengths * self.replayable, initial=0))
        del self.actions[: len(self.actions) - keep]

    def get_state(self) -> dict[str, np.ndarray]:
        """Numbers, sums and the actions so far, under the names of a checkpoint."""
        state = {
            "episode": self.numbers.copy(),
            "episode_return": self.returns.copy(),
            "episode_length": self.lengths.copy(),
            "replayable": self.replayable.copy(),
        }
        if self.costs is not None:
            state["episode_cost"] = self.costs.copy()
        for i in np.flatnonzero(self.replayable & (self.lengths > 0)):
            recent = self.actions[len(self.actions) - int(self.lengths[i]) :]
            state[f"actions.{i}"] = np.stack([actions[i] for actions in recent])
        return state

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, np.ndarray],
        numbers: np.ndarray,
        lost: np.ndarray,
        histories: list[Any],
        spec: PolicySpec,
        costs: bool = False,
    ) -> "OpenEpisodes":
        """Episodes from a state, with those that were `lost` [B] begun anew."""
        return cls(
            numbers,
            np.where(lost, 0.0, state["episode_return"]),
            np.where(lost, 0, state["episode_length"]),
            np.ones(len(numbers), dtype=bool),
            _align(histories, spec),
            [],
            np.where(lost, 0.0, state["episode_cost"]) if costs else None,
        )


def _align(histories: list[Any], spec: PolicySpec) -> list[np.ndarray]:
    """Action histories of unequal length as one list of steps, aligned at the end."""
    longest = max(map(len, histories), default=0)
    shape = (longest, len(histories), *spec.action_shape)
    steps = np.zeros(shape, dtype=spec.action_dtype)
    for i, history in enumerate(histories):
        if len(history):
            steps[longest - len(history) :, i] = history
    return list(steps)
