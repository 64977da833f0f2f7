"""An agent in one file: what it is made of, and its state.

The file may be a stranger's: it holds numbers and names, and what is made of them is
no larger than the file.
"""

import abc
import dataclasses
import itertools
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from trpo.agent.backend import Backend
from trpo.common.files import FileError, Folder
from trpo.common.formats import AGENT, numbered, translated
from trpo.common.tensors import decode_file, encode_file
from trpo.common.validation import from_fields, require_bool, require_positive, shown
from trpo.config.agent import TRPOConfig
from trpo.spaces.architecture import CELLS, NONE
from trpo.spaces.space_fields import spec_fields, spec_of
from trpo.spaces.spaces import PolicySpec
from trpo.spaces.user_networks import CustomNetworks


class SavedAgent(NamedTuple):
    """An agent's file.

    Attributes:
        spec: sizes, bounds and spaces.
        config: hyperparameters.
        normalize_observations: whether running statistics are kept.
        observation_clip: bound of normalised observations.
        networks: names of classes of the user's own networks, see `CustomNetworks`.
        arrays: the state, under canonical names.
    """

    spec: PolicySpec
    config: TRPOConfig
    normalize_observations: bool
    observation_clip: float
    networks: dict[str, str]
    arrays: dict[str, np.ndarray]


def write_agent(path: Path, saved: SavedAgent) -> None:
    """Write the file whole, or leave what was there."""
    manifest = {
        "spec": spec_fields(saved.spec),
        "config": dataclasses.asdict(saved.config),
        "normalize_observations": saved.normalize_observations,
        "observation_clip": saved.observation_clip,
        "networks": saved.networks,
    }
    content = encode_file(saved.arrays, numbered(AGENT, manifest))
    with Folder(path.parent) as folder:
        folder.write(path.name, content)


def read_agent(path: Path) -> SavedAgent:
    """The file's content, checked but for names and shapes of the state's arrays.

    Raises:
        FileError: it is no agent's file, or not as it was written.
        OSError: it is not there.
    """
    with Folder(path.parent) as folder:
        # It is in memory twice, as bytes and as arrays.
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        content = folder.read(path.name, memory // 2)
    try:
        arrays, manifest = decode_file(content)
        saved = _saved(arrays, translated(AGENT, manifest))
        require_room(saved.spec, saved.config, saved.networks, saved.arrays)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from error
    return saved


def _saved(arrays: dict[str, np.ndarray], fields: dict[str, Any]) -> SavedAgent:
    config, networks = fields.get("config"), fields.get("networks")
    for name, value in (("config", config), ("networks", networks)):
        if not isinstance(value, dict):
            raise ValueError(f"`{name}`: expected a dictionary, got {shown(value)}.")
    normalize, clip = (
        fields.get(name) for name in ("normalize_observations", "observation_clip")
    )
    require_bool("normalize_observations", normalize)  # pyright: ignore[reportArgumentType]
    require_positive("observation_clip", clip)  # pyright: ignore[reportArgumentType]
    if "random.seed" not in arrays:
        raise ValueError("`random.seed`: expected a number, got none.")
    return SavedAgent(
        spec_of(fields.get("spec")), from_fields(TRPOConfig, config),  # pyright: ignore[reportArgumentType]
        bool(normalize), float(clip), networks, arrays,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def require_room(
    spec: PolicySpec,
    config: TRPOConfig,
    networks: Collection[str],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Refuse sizes of networks for which a file has too few numbers.

    Args:
        spec: Sizes of the spaces.
        config: Those of the layers.
        networks: "policy", "value": those that are the user's own.
        arrays: That the file has.

    Raises:
        ValueError: weights of these sizes are more than there are.
    """
    counts = []
    for network, sizes, outputs in (
        ("policy", config.policy_layer_sizes, spec.head.output_dim),
        ("value", config.critic_layer_sizes, 1),
    ):
        if network in networks:
            continue
        inputs = config.architecture(spec.images).input_dim(spec.obs_dim)
        if config.recurrent != NONE:
            inputs, cell = config.recurrent_size, CELLS[config.recurrent]
            counts.append(cell.gates * inputs * (inputs + spec.obs_dim))
        elif network == "value" and config.share_encoder:
            inputs = config.policy_layer_sizes[-1]
        elif spec.images:
            counts += [image.encoded * image.features for image in spec.images]
        counts += [a * b for a, b in itertools.pairwise((inputs, *sizes, outputs))]
    there = sum(array.size for array in arrays.values())
    if sum(counts) > there:
        raise ValueError(
            f"`config`: expected networks of the file's {there:,} numbers at most, got "
            f"sizes that need {sum(counts):,} weights."
        )


class Copies(abc.ABC):
    """An agent's copies, in memory and in files."""

    spec: PolicySpec
    config: TRPOConfig
    backend: Backend
    custom_networks: CustomNetworks
    _normalization: tuple[bool, float]

    @classmethod
    @abc.abstractmethod
    def from_config(
        cls, spec: PolicySpec, config: TRPOConfig, device: Any = "cpu", **others: Any
    ) -> Self:
        """See `AgentBase`, as of all that follow."""

    @abc.abstractmethod
    def get_state(self) -> dict[str, np.ndarray]: ...  # noqa: D102

    @abc.abstractmethod
    def set_state(self, state: Mapping[str, np.ndarray]) -> None: ...  # noqa: D102

    @abc.abstractmethod
    def _make(self, device: Any, seed: int) -> None: ...

    def __getstate__(self) -> dict[str, Any]:
        """All that a copy is made of, for `copy` and `pickle`.

        A copy shares nothing with the agent. It isn't sharded, even if the agent is.
        """
        made = ("backend", "state", "sharding", "_lock")
        fields = {n: value for n, value in vars(self).items() if n not in made}
        return {
            **fields,
            "device": self.backend.device_name,
            "arrays": self.get_state(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = state["arrays"]
        made = ("device", "arrays")
        vars(self).update({n: v for n, v in state.items() if n not in made})
        self._make(state["device"], int(arrays["random.seed"]))
        self.set_state(arrays)

    def save(self, path: Path | str) -> None:
        """Write the agent to one file, which `load` of either backend reads.

        It is safetensors: arrays, and as its metadata what the agent is made of.
        Whoever is killed meanwhile leaves the old file or the new one.

        Raises:
            OSError: the disk refused.
        """
        saved = SavedAgent(
            self.spec, self.config, *self._normalization,
            self.custom_networks.described(), self.get_state(),
        )  # fmt: skip
        write_agent(Path(path), saved)

    @classmethod
    def load(
        cls,
        path: Path | str,
        device: Any = "cpu",
        policy_network: Any = None,
        value_network: Any = None,
    ) -> Self:
        """The agent that `save` of either backend wrote; it goes on as that one would.

        The file may be a stranger's: no code is run, and all of it is checked.

        Args:
            path: Of the file.
            device: As in the constructor.
            policy_network: One like that which the agent was given, if it was; its
                weights become the file's.
            value_network: Likewise.

        Raises:
            FileError: it is no agent's file, or not as it was written.
            ValueError: another class has this kind of network or update; or a network
                of the user's is missing.
            OSError: it is not there, or can't be read.
        """
        saved = read_agent(Path(path))
        networks = CustomNetworks(policy_network, value_network)
        networks.require(saved.networks)
        agent = cls.from_config(
            saved.spec, saved.config, device, seed=int(saved.arrays["random.seed"]),
            normalize_observations=saved.normalize_observations,
            observation_clip=saved.observation_clip, policy_network=policy_network,
            value_network=value_network,
        )  # fmt: skip
        agent.set_state(saved.arrays)
        return agent
