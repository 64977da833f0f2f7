"""Checks of what an agent is given, and its conversion to the framework's arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from trpo.agent.backend import BackendHooks
from trpo.agent.batch_checks import (
    as_rows,
    batch_fields,
    largest_observation,
    real_array,
    require_finite,
    require_shape,
)
from trpo.config.run import TRPOConfig
from trpo.data.normalization import ObservationNormalizer
from trpo.data.sequences import NONE
from trpo.data.types import Batch
from trpo.spaces.action_heads import Head


class AgentChecks(BackendHooks):
    """The part of an agent that checks; `trpo.agent.base.AgentBase` has the rest."""

    config: TRPOConfig
    obs_dim: int
    act_dim: int
    head: Head
    dtype: np.dtype
    observation_normalizer: ObservationNormalizer | None

    def _shuffled(self, batch: Batch) -> int:
        """How many things the critic's minibatches are drawn from: samples."""
        return batch.obs.shape[0]

    def _require_kind(self) -> None:
        """Raise ValueError unless this class is for the configured kind of network."""
        if self.config.recurrent != NONE:
            raise ValueError(
                f"`recurrent`: expected {NONE!r} for {type(self).__name__}, got "
                f"{self.config.recurrent!r}. Take RecurrentTRPOAgent, whose `act` "
                "takes and returns hidden states, or make the agent by trpo.make_agent."
            )
        if self.config.cost_limit is not None:
            raise ValueError(
                f"`cost_limit`: expected None for {type(self).__name__}, got "
                f"{self.config.cost_limit!r}. Take ConstrainedTRPOAgent, whose update "
                "takes costs, or make the agent by trpo.make_agent."
            )

    @property
    def largest_observation(self) -> float:
        """Absolute value above which an observation is refused."""
        normalized = self.observation_normalizer is not None
        return largest_observation(self.dtype, normalized)

    def _prepare_obs(self, obs: Any, name: str = "obs") -> Any:
        """Checked observations, normalised if normalisation is on."""
        if not self._is_native(obs):
            obs = real_array(name, obs)
            require_finite(name, obs, self.largest_observation)
        require_shape(name, obs, (None, self.obs_dim))
        if self.observation_normalizer is not None:
            if self._is_native(obs):
                obs = self._to_numpy(obs)
                require_finite(name, obs, self.largest_observation)
            obs = self.observation_normalizer.normalize(obs, self.dtype)
        return obs

    def _prepare_mask(self, mask: Any, rows: int, name: str = "action_mask") -> Any:
        """The checked mask [rows, options] as native 0 and 1; None if there is none.

        Raises:
            ValueError: it has another shape or other entries, forbids everything, or
                actions are real numbers.
        """
        if mask is None:
            return None
        if not self.head.options:
            raise ValueError(
                f"`{name}`: expected None, as {self.head.distribution!r} actions are "
                "real numbers, got a mask."
            )
        mask = self._to_numpy(mask) if self._is_native(mask) else real_array(name, mask)
        require_shape(name, mask, (None, sum(self.head.options)))
        mask = as_rows(name, mask, rows, width=mask.shape[1])
        self.head.check_mask(name, mask)
        return self._to_native(mask.astype(self.dtype))

    def _checked_rows(self, name: str, array: Any, rows: int, width: int) -> Any:
        """`array` as native [rows, width] in the agent's dtype.

        Raises:
            ValueError: it has another shape, or is not finite in that dtype.
        """
        array = array if self._is_native(array) else real_array(name, array)
        array = as_rows(name, array, rows, width=width)
        if isinstance(array, np.ndarray):
            with np.errstate(over="ignore"):
                array = array.astype(self.dtype, copy=False)
            # After the cast, which may overflow.
            require_finite(name, array)
        native = self._to_native(array)
        if not (isinstance(array, np.ndarray) or self._all_finite(native)):
            require_finite(name, self._to_numpy(native))
        return native

    def _check_batch(self, batch: Mapping[str, Any] | Batch) -> Batch:
        """The batch as native arrays in the agent's dtype, each [N, width]."""
        fields = batch_fields(batch)
        fields["obs"] = self._prepare_obs(fields["obs"], "batch['obs']")
        mask = self._prepare_mask(
            fields.pop("action_mask", None),
            fields["obs"].shape[0],
            "batch['action_mask']",
        )
        widths = {"obs": self.obs_dim, "actions": self.act_dim}
        rows = fields["obs"].shape[0]
        checked = {
            field: self._checked_rows(
                f"batch['{field}']", array, rows, widths.get(field, 1)
            )
            for field, array in fields.items()
        }
        if self.head.options:
            actions = self._to_numpy(checked["actions"])
            host_mask = None if mask is None else self._to_numpy(mask)
            self.head.check_actions("batch['actions']", actions, host_mask)
        return Batch(**checked, action_mask=mask)
