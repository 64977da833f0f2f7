"""Costs of an environment's steps, from `info["cost"]`.

As in Safety-Gymnasium and OmniSafe: a number of each step, apart from its reward.
"""

from numbers import Real
from typing import Any

import numpy as np


KEY = "cost"
FINAL_INFO = "final_info"


class CostError(ValueError):
    """A step has no cost, or one that is no number; names the environment."""


def cost_info(info: Any) -> dict[str, Any]:
    """The cost among one environment's infos, if it is there, by its name.

    As float: Gymnasium's vectors take the type of the first environment's number for
    all, and 0.5 would become the integer 0.
    """
    if not (isinstance(info, dict) and KEY in info):
        return {}
    cost = info[KEY]
    return {KEY: float(cost) if isinstance(cost, Real | np.bool_) else cost}


def step_costs(
    infos: dict[str, Any], ended: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """Costs [B] of a step of a vector of environments.

    Args:
        infos: Of the step.
        ended: [B] environments whose infos are those of the next episode already, as
            in autoreset mode SAME_STEP; what the step cost is in `final_info`.
        asked: [B] environments that took a step; others cost 0.

    Raises:
        CostError: one of them has no cost, or one that is no number.
    """
    costs = np.zeros(len(asked))
    final = infos.get(FINAL_INFO, {})
    for i in np.flatnonzero(asked):
        source = final if ended[i] else infos
        present = source.get(f"_{KEY}") if KEY in source else None
        if present is None or not present[i]:
            raise CostError(
                f"`info[{KEY!r}]`: expected the cost of each step, as `cost_limit` is "
                f"set, got none from environment {i}. Add it to the environment's "
                "infos, 0 where a step costs nothing, or leave `cost_limit` out."
            )
        try:
            # An array of one number is as good as the number.
            (costs[i],) = np.asarray(source[KEY][i], dtype=np.float64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise CostError(
                f"`info[{KEY!r}]`: expected a number, got {source[KEY][i]!r} from "
                f"environment {i}."
            ) from error
    return costs
