"""Costs of an environment's steps, from `info["cost"]`.

As in Safety-Gymnasium and OmniSafe: a number of each step, apart from its reward.
"""

from typing import Any

import numpy as np

from trpo.environments.contract import COST as KEY, FINAL_INFO, info_of, number


class CostError(ValueError):
    """A step has no cost, or one that is no number; names the environment."""


def step_costs(
    infos: dict[str, Any], ended: np.ndarray, asked: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """Costs [B] of a step of a vector of environments.

    Args:
        infos: Of the step.
        ended: [B] environments whose infos are those of the next episode already, as
            in autoreset mode SAME_STEP; what the step cost is in `final_info`.
        asked: [B] environments that took a step; others cost 0.
        lengths: [B] steps of each episode before it, for an error.

    Raises:
        CostError: one of them has no cost, or one that is no number.
    """
    costs = np.zeros(len(asked))
    final = infos.get(FINAL_INFO, {})
    for i in map(int, np.flatnonzero(asked)):
        where = f"environment {i} at step {lengths[i] + 1} of its episode"
        try:
            cost = info_of(final if ended[i] else infos, KEY, i)
            costs[i] = number(f"info[{KEY!r}]", cost)
        except LookupError as error:
            raise CostError(
                f"`info[{KEY!r}]`: expected the cost of each step, as `cost_limit` is "
                f"set, got none from {where}. Add it to the environment's "
                "infos, 0 where a step costs nothing, or leave `cost_limit` out."
            ) from error
        except ValueError as error:
            raise CostError(f"{error} from {where}.") from error
    return costs
