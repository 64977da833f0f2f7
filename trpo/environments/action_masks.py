"""Which actions an environment allows now: an entry for each option, 0 where it can't.

As in sb3-contrib's MaskablePPO and PettingZoo. Who steps an environment asks for the
mask that belongs to the next action; wherever the environment has it, it is handed on
as `info["action_mask"]`.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from trpo.environments.contract import ACTION_MASK as KEY, info_of
from trpo.spaces.action_heads import Head


INFO, OBSERVATION, METHOD = "info", "observation", "method"
METHOD_NAME = "action_masks"


class ActionMaskError(ValueError):
    """A mask is missing, misshapen or forbids everything; names the environment."""


class MaskSource:
    """Where one environment has its masks, which `added` adds to its infos.

    Args:
        env: The environment.
        where: "info", "observation" (`obs["action_mask"]`, as PettingZoo's, which the
            agent is then not shown) or "method" (`env.action_masks()`, sb3-contrib's).
        omitted: Keys of its observations that are left out anyway.
        warns: Whether to warn where it has masks that nobody asks for.

    Raises:
        ValueError: it has none there.
    """

    def __init__(
        self, env: gymnasium.Env, where: str, omitted: Sequence[str], warns: bool
    ) -> None:
        space = env.observation_space
        in_space = isinstance(space, gymnasium.spaces.Dict) and KEY in space.spaces
        has = {OBSERVATION: in_space, METHOD: env.has_wrapper_attr(METHOD_NAME)}
        if not has.get(where, True):
            there = [name for name, present in has.items() if present]
            raise ValueError(
                f"`action_masks`: expected an environment with masks in its {where}, "
                f"got none there; it has them in {' and '.join(there) or 'no other'}."
            )
        self._where, self._unread = where, ""
        if where == INFO and warns and any(has.values()):
            self._unread = max(has, key=lambda name: has[name])
        self.omitted = (*omitted, KEY) if where == OBSERVATION else tuple(omitted)
        self._method = env.get_wrapper_attr(METHOD_NAME) if where == METHOD else None

    def added(self, info: dict[str, Any], obs: Any) -> dict[str, Any]:
        """`info` with the mask of `obs`.

        Raises:
            ValueError: there is none.
        """
        if self._where == INFO:
            if self._unread and KEY not in info:
                warnings.warn(
                    f"`action_masks`: the environment's masks, in its {self._unread}, "
                    "are not asked for, so that forbidden actions are taken. Ask by "
                    f"--action-masks {self._unread} (action_masks={self._unread!r})",
                    stacklevel=2,
                )
            self._unread = ""
            return info
        if self._method is None:
            if not (isinstance(obs, Mapping) and KEY in obs):
                raise ValueError(f"`obs[{KEY!r}]`: expected a mask, got none")
            return info | {KEY: np.array(obs[KEY])}
        try:
            return info | {KEY: np.array(self._method())}
        except Exception as error:
            reason = f"`{METHOD_NAME}()`: expected a mask, got {error!r}"
            raise ValueError(reason) from error


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
            self.follow(
                infos, np.ones(size, dtype=bool), np.zeros(size, dtype=np.int64)
            )

    def follow(
        self, infos: dict[str, Any], acting: np.ndarray, lengths: np.ndarray
    ) -> None:
        """Take over the masks of the environments that act next.

        Args:
            infos: Of a step or reset of the vector.
            acting: [B] which environments they hold a mask of.
            lengths: [B] steps of each open episode, for an error.

        Raises:
            ActionMaskError: see the class.
        """
        if self.current is None:
            if KEY in infos:
                index = np.flatnonzero(infos.get(f"_{KEY}", acting))[0]
                raise ActionMaskError(
                    f"`info[{KEY!r}]`: expected one of each reset too, got the first "
                    f"from environment {index} at step {lengths[index]} of its "
                    "episode. Have its reset return one, or its step none."
                )
            return
        # A new array: rollouts keep the last.
        masks = self.current.copy()
        for i in map(int, np.flatnonzero(acting)):
            where = f"environment {i} at step {lengths[i]} of its episode"
            try:
                mask = info_of(infos, KEY, i)
            except LookupError as error:
                raise ActionMaskError(
                    f"`info[{KEY!r}]`: expected one of each step and reset, as the "
                    f"first reset had it, got none from {where}."
                ) from error
            masks[i] = self.of(mask, where)
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
        except (ValueError, TypeError) as error:
            raise ActionMaskError(f"{error} It came from {whose}.") from error
        return mask
