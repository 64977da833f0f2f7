"""How the rates of an update change over a run."""

import math
from typing import Any

from trpo.data.batch import Rates


# A radius must stay above zero; equal advantages take no step at any radius.
SMALLEST_RADIUS_SHARE = 1e-8


def scheduled_rates(config: Any, update: int, advantage_std: float = math.inf) -> Rates:
    """Rates of the update that comes after `update` others; see `TrainConfig`.

    Args:
        config: A `TrainConfig`.
        update: Updates done before.
        advantage_std: Standard deviation of its advantages, in units of scaled
            returns, before they are normalised.
    """
    progress = update / max(1, config.num_updates - 1)
    start = config.agent.rates()
    final = config.agent.rates(config.final_target_kl, config.final_value_lr)
    # Exact where nothing changes, and from the configured end on, where a + (b - a)
    # would be 0 for a b that is lost beside a.
    changes = zip(start, final, strict=True)
    rates = Rates(*(a + (b - a) * progress if progress < 1 else b for a, b in changes))
    share = _radius_share(advantage_std, config.full_radius_advantage_std)
    return rates._replace(target_kl=rates.target_kl * share)


def _radius_share(advantage_std: float, full: float) -> float:
    """Share of the radius that advantages of this deviation are given."""
    if full == 0.0 or advantage_std >= full:  # The former of a NaN too.
        return 1.0
    return max((advantage_std / full) ** 2, SMALLEST_RADIUS_SHARE)
