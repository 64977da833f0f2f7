"""A backend: the framework's half of an agent, which an agent has."""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from trpo.agent.sharding import Sharding, Shards
from trpo.config.agent import StepNumbers
from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch
from trpo.data.normalization import ObservationNormalizer
from trpo.data.report import UpdateReport
from trpo.distributed.ranks import Alone
from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import Architecture, Image
from trpo.spaces.spaces import PolicySpec
from trpo.spaces.user_networks import CustomNetworks


class Backend(abc.ABC):
    """Networks and optimiser of one framework, and what is computed of them.

    Args:
        spec: Sizes and distribution.
        config: Hyperparameters.
        device: Of the framework, as its own object or a name such as "cuda:0".
        weights: Initial weights under canonical names, in the configured dtype.
        custom_networks: The user's own modules, which are copied.

    Raises:
        ValueError: there is no such device, or a module of the user's has other sizes.
    """

    architecture: Architecture
    config: TRPOConfig
    custom_networks: CustomNetworks
    dtype: np.dtype[Any]
    head: Head
    images: tuple[Image, ...]
    obs_dim: int

    framework: str
    """Name of the backend, for messages and manifests."""
    device: Any
    """The framework's device."""
    policy: Any
    """The policy's module, or its tree of arrays."""
    critic: Any
    """The critic's, likewise."""

    device_name: str
    """Its name, by which it is found again."""

    def __init__(
        self,
        spec: PolicySpec,
        config: TRPOConfig,
        device: Any,
        weights: dict[str, np.ndarray],
        custom_networks: CustomNetworks,
    ) -> None:
        self.config, self.custom_networks = config, custom_networks
        self.head, self.obs_dim = spec.head, spec.obs_dim
        self.dtype = np.dtype(config.dtype)
        self.images = spec.images
        self.architecture = config.architecture(spec.images)
        self._take_device(device)
        with self.own_settings():
            self._build(weights)

    @abc.abstractmethod
    def _take_device(self, device: Any) -> None:
        """Find the device, and raise ValueError if there is none that will do."""

    @abc.abstractmethod
    def own_settings(self) -> AbstractContextManager[Any]:
        """Context in which the framework computes as the agent is set.

        Not as the process is for the user's own code; that is as before afterwards.

        Raises:
            ValueError: the framework does not compute at present, but traces.
        """

    def untraced(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method that the framework's compiler of Python leaves as it is."""
        return method

    @abc.abstractmethod
    def _build(self, weights: dict[str, np.ndarray]) -> None:
        """Put networks of these canonical weights, and an optimiser, on the device."""

    @abc.abstractmethod
    def is_native(self, array: Any) -> bool:
        """Whether `array` is one of the framework's own."""

    @abc.abstractmethod
    def require_values(self, name: str, array: Any) -> None:
        """Raise ValueError if a native array only stands for values, in a trace."""

    @abc.abstractmethod
    def to_native(self, array: Any) -> Any:
        """`array`, the framework's or NumPy's, as what learns from it takes it.

        In the agent's dtype, and on its device; NumPy's where that is the host.
        """

    @abc.abstractmethod
    def to_numpy(self, array: Any) -> np.ndarray:
        """A framework's array as a NumPy array on the host."""

    @abc.abstractmethod
    def to_indices(self, array: np.ndarray) -> Any:
        """Whole numbers as the framework's array, on the agent's device."""

    @abc.abstractmethod
    def all_finite(self, arrays: list[Any]) -> bool:
        """Whether every entry of all native arrays is finite."""

    @abc.abstractmethod
    def forward(
        self, obs: Any, noise: np.ndarray | None, *inputs: Any
    ) -> tuple[Any, ...]:
        """Action, log-probability and value for `obs`; the mode where no noise.

        Args:
            obs: Checked observations [B, obs_dim].
            noise: As `AgentBase.draw_noise` makes it.
            inputs: The mask of actions, and a recurrent network's hidden states; one
                of these puts out the new ones too.
        """

    @abc.abstractmethod
    def sample(self, obs: np.ndarray, noise: np.ndarray | None, mask: Any) -> Any:
        """Actions [B, act_dim] alone, as in `forward`: the critic is not asked."""

    @abc.abstractmethod
    def policy_arrays(self) -> dict[str, np.ndarray]:
        """Copies of the policy's arrays under canonical names."""

    @abc.abstractmethod
    def evaluate(self, obs: Any, actions: Any, mask: Any) -> tuple[Any, Any]:
        """Log-probability [N, 1] of native actions [N, act_dim], and values [N, 1]."""

    @abc.abstractmethod
    def value(self, obs: Any, *inputs: Any) -> Any:
        """Critic's values [B, 1]; of a recurrent one after these hidden states."""

    @abc.abstractmethod
    def policy_function(
        self, spec: PolicySpec, normalizer: ObservationNormalizer | None
    ) -> Any:
        """The policy as it is now, from raw observations to environments' actions.

        See `trpo.agent.base.AgentBase.policy_function`.
        """

    @abc.abstractmethod
    def trained_networks(self) -> CustomNetworks:
        """Copies of the user's own networks as they are now."""

    @abc.abstractmethod
    def policy_objective(
        self, obs: Any, actions: Any, old_log_probs: Any, advantages: Any
    ) -> Any:
        """Surrogate [], ratio [N, 1] and log-ratio [N, 1] at the present policy."""

    @abc.abstractmethod
    def build_value_optimizer(self, params: Iterable[Any]) -> Any:
        """A fresh optimiser of a critic's parameters: Adam, or SGD with momentum."""

    @abc.abstractmethod
    def update(
        self, batch: Batch, orders: np.ndarray, numbers: StepNumbers
    ) -> UpdateReport:
        """One update of policy and critic, in place.

        Whoever calls it restores what was before where it raises, and where the
        report says NON_FINITE.
        """

    @abc.abstractmethod
    def use_devices(self, ranks: Alone, devices: Sequence[Any]) -> None:
        """Compute sharded updates there."""

    @abc.abstractmethod
    def update_sharded(
        self,
        sharding: Sharding,
        shards: Shards,
        batch: Batch,
        orders: np.ndarray,
        numbers: StepNumbers,
    ) -> UpdateReport:
        """`update` by all devices together, of which each has a shard of the samples.

        `batch` is this process's part; `orders` [epochs, total] are of all samples.
        """

    @abc.abstractmethod
    def learned(self) -> Any:
        """Weights and optimiser as they are now, for `restore`; cheap."""

    @abc.abstractmethod
    def restore(self, learned: Any) -> None:
        """Make weights and optimiser, every byte, what `learned` returned."""

    @abc.abstractmethod
    def arrays_of(self, learned: Any) -> dict[str, np.ndarray]:
        """Copies of what `learned` returned, under canonical names."""

    def canonical(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        """Arrays of a state under canonical names, also if an older file has others."""
        return arrays

    @abc.abstractmethod
    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from checked weights and optimiser, under canonical names."""
