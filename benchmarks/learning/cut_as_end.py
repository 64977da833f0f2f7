"""An environment whose time limit counts as an end, for comparison only.

    python -m benchmarks.learning.ablation --env HalfCheetah-v5 \
        --vary truncation=terminal

An agent that does not tell the two apart takes the state at the limit to be worth
nothing (Pardo et al. 2018, "Time Limits in Reinforcement Learning").
"""

from typing import Any

import gymnasium

from trpo.config.presets import BY_ENVIRONMENT


NAMESPACE = "cut-as-end"
# Those that have a preset of their own and no namespace, which an id has one of.
BASES = tuple(env_id for env_id in BY_ENVIRONMENT if "/" not in env_id)


class CutAsEnd(gymnasium.Wrapper):
    """Says that an episode has terminated where it was truncated."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step of the environment; never truncated."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated or truncated, False, info


def make_cut_as_end(base: str, **options: Any) -> gymnasium.Env:
    """The environment of id `base` so wrapped; for `gymnasium.register`."""
    return CutAsEnd(gymnasium.make(base, **options))


def cut_as_end_id(base: str) -> str:
    """The id by which `gymnasium.make` finds it, in any process.

    Raises:
        ValueError: `base` is none of `BASES`.
    """
    if base not in BASES:
        raise ValueError(
            f"`vary`: truncation=terminal expects one of {', '.join(BASES)}, got "
            f"{base!r}."
        )
    return f"{__name__}:{NAMESPACE}/{base}"


for _base in BASES:
    gymnasium.register(
        f"{NAMESPACE}/{_base}",
        entry_point=f"{__name__}:make_cut_as_end",
        kwargs={"base": _base},
    )
