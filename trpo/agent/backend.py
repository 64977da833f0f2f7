"""The methods that a backend supplies to `trpo.agent.base.AgentBase`."""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from trpo.agent.sharding import Shards
from trpo.data.batch import Batch, Rates
from trpo.data.report import UpdateReport
from trpo.ranks import Alone


class BackendHooks(abc.ABC):
    """The framework's half of an agent; each backend defines every method."""

    framework: str
    """Name of the backend, for messages and manifests."""

    @abc.abstractmethod
    def _build(self, device: Any, weights: dict[str, np.ndarray]) -> None:
        """Put networks of these canonical weights, and an optimiser, on the device."""

    @abc.abstractmethod
    def _is_native(self, array: Any) -> bool:
        """Whether `array` is one of the framework's own."""

    @abc.abstractmethod
    def _to_native(self, array: Any) -> Any:
        """`array`, the framework's or NumPy's, in the agent's dtype on its device."""

    @abc.abstractmethod
    def _to_numpy(self, array: Any) -> np.ndarray:
        """A framework's array as a NumPy array on the host."""

    @abc.abstractmethod
    def _all_finite(self, arrays: list[Any]) -> bool:
        """Whether every entry of all native arrays is finite."""

    @abc.abstractmethod
    def _forward(
        self, obs: Any, noise: np.ndarray | None, mask: Any = None
    ) -> tuple[Any, Any, Any]:
        """Action, log-probability and value for `obs`; the mode where no noise."""

    @abc.abstractmethod
    def _value(self, obs: Any) -> Any:
        """Critic's values [B, 1]."""

    @abc.abstractmethod
    def _update(self, batch: Batch, orders: np.ndarray, rates: Rates) -> UpdateReport:
        """One update of policy and critic, in place.

        Whoever calls it restores what was before where it raises, and where the
        report says NON_FINITE.
        """

    @abc.abstractmethod
    def _use_devices(self, ranks: Alone, devices: Sequence[Any]) -> None:
        """Compute sharded updates there."""

    @abc.abstractmethod
    def _update_sharded(
        self, shards: Shards, batch: Batch, orders: np.ndarray, rates: Rates
    ) -> UpdateReport:
        """`_update` by all devices together, of which each has a shard of the samples.

        `batch` is this process's part; `orders` [epochs, total] are of all samples.
        """

    @abc.abstractmethod
    def _learned(self) -> Any:
        """Weights and optimiser as they are now, for `_restore_learned`; cheap."""

    @abc.abstractmethod
    def _restore_learned(self, learned: Any) -> None:
        """Weights and optimiser, every byte, as `_learned` returned them."""

    @abc.abstractmethod
    def _get_learned_state(self) -> dict[str, np.ndarray]:
        """Copies of weights and optimiser under canonical names."""

    @abc.abstractmethod
    def _arrays_of(self, learned: Any) -> dict[str, np.ndarray]:
        """The same of what `_learned` returned; of an agent that can be sharded."""

    @abc.abstractmethod
    def _set_learned_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from checked weights and optimiser."""
