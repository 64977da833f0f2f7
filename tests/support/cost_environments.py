"""Environments whose steps cost something, registered under TrpoTest/…"""

import gymnasium

from tests.support.counting_environments import Counter


class Toll(Counter):
    """Counter whose steps cost their number, and 100 more where an episode ends.

    The first costs 1 as a whole number; later ones, by `cost`, may have none.
    """

    def __init__(self, cost="right"):
        super().__init__()
        self._cost = cost

    def step(self, action):
        *step, terminated, truncated, _ = super().step(action)
        cost = self.count + 100.0 * (terminated or truncated)
        if self._cost == "poisoned" and self.count == 3:
            cost = float("nan")
        others = {"missing": {}, "word": {"cost": "much"}}
        info = {"cost": 1}
        if self.count > 1:
            info = others.get(self._cost, {"cost": cost})
        return *step, terminated, truncated, info


for name, cost in (
    ("Toll-v0", "right"),
    ("TollMissing-v0", "missing"),
    ("TollWord-v0", "word"),
    ("TollPoisoned-v0", "poisoned"),
):
    if f"TrpoTest/{name}" not in gymnasium.registry:
        gymnasium.register(
            f"TrpoTest/{name}", Toll, kwargs={"cost": cost}, disable_env_checker=True
        )
