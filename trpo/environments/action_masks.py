"""Which actions an environment allows now, from `info["action_mask"]`.

As in sb3-contrib's MaskablePPO and PettingZoo: an entry for each option, 0 where it
can't be taken. Who steps an environment asks for the mask that belongs to the next
action.
"""

from typing import Any

import numpy as np

from trpo.spaces.action_heads import Head


KEY = "action_mask"


class ActionMaskError(ValueError):
    """A mask is missing, misshapen or forbids everything; names the environment."""


class ActionMasks:
    """The masks of a vector of environments; `current` is None where there are none.

    Args:
        head: Of the policy.
        infos: Of the first reset. They decide whether there are masks at all.
        size: Environments.

    Raises:
        ActionMaskError: an environment's mask is missing, does not fit its action space
            or forbids everything.
    """

    def __init__(self, head: Head, infos: dict[str, Any], size: int) -> None:
        self._head = head
        self.current: np.ndarray | None = None
        if KEY in infos:
            self.current = np.ones((size, sum(head.options)), dtype=bool)
            self.follow(infos, np.ones(size, dtype=bool))

    def follow(self, infos: dict[str, Any], acting: np.ndarray) -> None:
        """Take over the masks of the environments that act next.

        Args:
            infos: Of a step or reset of the vector.
            acting: [B] which environments they hold a mask of.

        Raises:
            ActionMaskError: see the class.
        """
        if self.current is None:
            if KEY in infos:
                raise ActionMaskError(
                    f"`info[{KEY!r}]`: expected in the infos of the first reset too, "
                    "got it in a later one alone."
                )
            return
        # A new array: rollouts keep the last.
        masks = self.current.copy()
        present = infos.get(f"_{KEY}", np.zeros(len(masks), dtype=bool))
        for i in np.flatnonzero(acting):
            if not present[i]:
                raise ActionMaskError(
                    f"`info[{KEY!r}]`: expected one of each step and reset, as the "
                    f"first reset had it, got none from environment {i}."
                )
            masks[i] = self.of(infos[KEY][i], f"environment {i}")
        self.current = masks

    def release(self, ended: np.ndarray) -> None:
        """Allow everything where the next action is ignored: [B] just before a reset.

        Where a game is over there may be nothing left to do.
        """
        if self.current is not None and ended.any():
            self.current = self.current | ended[:, None]

    def of(self, mask_info: Any, whose: str) -> np.ndarray:
        """The mask [options] that an environment gave, which leaves it something.

        Raises:
            ActionMaskError: see the class.
        """
        try:
            mask = self._head.flat_mask(mask_info)
            self._head.check_mask(KEY, mask[None])
        except ValueError as error:
            raise ActionMaskError(f"{error} It came from {whose}.") from error
        return mask
