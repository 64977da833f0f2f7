"""The interface between the training loop and an agent of either backend."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class Agent(Protocol):
    """An agent as the training loop uses it; both backends have one."""

    obs_dim: int
    act_dim: int
    config: Any
    """Hyperparameters, a `trpo.config.run.TRPOConfig`."""

    @property
    def largest_observation(self) -> float:
        """Absolute value above which an observation is refused."""
        ...

    def act(
        self, obs: Any, deterministic: bool = False, action_mask: Any = None
    ) -> tuple[Any, Any, Any]:
        """Action [B, act_dim], log-probability [B, 1] and value [B, 1] for `obs`."""
        ...

    def value(self, obs: Any) -> Any:
        """Critic's value [B, 1] of `obs` [B, obs_dim]."""
        ...

    def update(
        self,
        batch: Mapping[str, Any],
        *,
        target_kl: float | None = None,
        value_lr: float | None = None,
    ) -> dict[str, float]:
        """Take one trust-region step and fit the critic; return the metrics."""
        ...

    def observe(self, obs: np.ndarray) -> None:
        """Add raw observations [..., obs_dim] to the running normalisation."""
        ...

    def snapshot(self) -> Any:
        """The present state, kept in memory, for `restore`."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Make every byte of the state what `snapshot` has kept."""
        ...

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that the next update depends on, under canonical names."""
        ...

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state`, of either backend."""
        ...
