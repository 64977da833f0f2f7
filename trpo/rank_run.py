"""A run of many processes: rank 0 leads, logs, evaluates and saves; others follow.

Each steps its own environments and all make each update together. Whatever else needs
them all, such as a checkpoint, rank 0 orders; between orders a rank waits.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trpo.common.closing import closing
from trpo.config.run import TrainConfig
from trpo.data.rollout import Rollout
from trpo.rank_training import state_without_others
from trpo.ranks import Ranks
from trpo.training.progress import Progress
from trpo.training.state import state_at
from trpo.training.trainer import Trainer


ORDER = "order"


class Order(enum.IntEnum):
    """The next thing that all ranks do."""

    TRAIN = 0
    GIVE_STATE = 1
    TAKE_STATE = 2
    END = 3


class LeadingTrainer(Trainer):
    """Rank 0's: what it does, it has the others do too.

    Args:
        config: Configuration of the run.
        ranks: All.
    """

    ranks: Ranks

    def __init__(self, config: TrainConfig, ranks: Ranks) -> None:
        super().__init__(config, ranks=ranks)

    def train_once(
        self, on_rollout: Callable[[Rollout], None] | None = None
    ) -> Progress:
        """See `Trainer`."""
        self._order(Order.TRAIN)
        return super().train_once(on_rollout)

    def get_state(self) -> dict[str, np.ndarray]:
        """See `Trainer`; of the whole run."""
        if self._interrupted:
            # The others wait for this rank in the middle of an update.
            return rescued(self)[1]
        self._order(Order.GIVE_STATE)
        return super().get_state()

    def set_state(self, state: Mapping[str, np.ndarray]) -> tuple[int, ...]:
        """See `Trainer`; of the whole run, however many ranks saved it."""
        # Before the others are told, who would fail too.
        state = self.check_state(state)
        self._order(Order.TAKE_STATE, state)
        return super().set_state(state)

    def close(self) -> None:
        """Have the others end, and close the environments."""
        with closing(super().close):
            if not self._interrupted:
                self._order(Order.END)

    def _order(
        self, order: Order, arrays: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.ranks.tell({**(arrays or {}), ORDER: np.array(int(order))})


def follow(trainer: Trainer, ranks: Ranks) -> None:
    """Do what rank 0 orders, until it ends the run."""
    while True:
        arrays = ranks.hear()
        order = Order(int(arrays.pop(ORDER)))
        if order == Order.END:
            return
        if order == Order.TRAIN:
            trainer.train_once()
        elif order == Order.GIVE_STATE:
            trainer.get_state()
        else:
            trainer.set_state(arrays)


def rescued(trainer: Trainer) -> tuple[int, dict[str, Any]]:
    """The whole run after its last update, where other ranks can't be asked.

    Reads only what no update writes to, and so may be called by any thread, whatever
    the others are in the middle of.

    Returns:
        Environment steps done, and the state.
    """
    state_here = state_at(trainer, trainer.committed)
    updates = int(state_here["training.update"])
    config = trainer.config
    # An episode has one step at least.
    most = updates * config.rollout_steps + 1
    state = state_without_others(state_here, trainer.share, config.num_envs, most)
    return updates * trainer.steps_per_update, state
