"""Loads a backend when it is asked for, and says how to install a missing one."""

import importlib
from types import ModuleType
from typing import Any, get_args

from trpo.agent.base import AgentBase
from trpo.common.framework_settings import set_deterministic_flags
from trpo.common.validation import require_choice
from trpo.config.choices import Backend
from trpo.config.run import TrainConfig
from trpo.spaces.architecture import NONE
from trpo.spaces.spaces import PolicySpec
from trpo.spaces.user_networks import network_of


MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "jax": ("trpo_jax", ("jax", "flax", "optax")),
    "torch": ("trpo_torch", ("torch",)),
}


class MissingBackendError(ImportError):
    """The framework of a backend is not installed; the message has the command."""


def load_backend(name: str) -> ModuleType:
    """The package of the backend called "jax" or "torch".

    Raises:
        ValueError: there is no such backend.
        MissingBackendError: its framework is not installed.
    """
    require_choice("backend", name, get_args(Backend))
    module, needs = MODULES[name]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in needs:
            raise
        raise MissingBackendError(
            f"`backend`: {name!r} needs the package {error.name!r}, which is not "
            f'installed. Install it by: pip install "trpo[{name}]" (or a GPU extra).'
        ) from error


def make_agent(
    config: TrainConfig,
    spec: PolicySpec,
    policy_network: Any = None,
    value_network: Any = None,
) -> AgentBase:
    """A new agent of the configured backend for an environment of this `spec`.

    Args:
        config: Of the run.
        spec: Of the environment's spaces.
        policy_network: The user's own, see `trpo.agent.base.AgentBase`; or what makes
            it, see `trpo.spaces.user_networks.network_of`. By default what the
            configuration names.
        value_network: Likewise.

    Raises:
        ValueError: an argument is out of range, or there is no such device.
        MissingBackendError: the framework is not installed.
    """
    if config.deterministic:
        set_deterministic_flags()
    module = load_backend(config.backend)
    if config.deterministic:
        module.devices.device.use_deterministic_kernels()
    kind = "TRPOAgent"
    if config.agent.recurrent != NONE:
        kind = "RecurrentTRPOAgent"
    elif config.agent.cost_limit is not None:
        kind = "ConstrainedTRPOAgent"
    networks = {}
    with module.devices.device.seeded(config.seed):
        for name, network, outputs in (
            ("policy_network", policy_network, spec.head.output_dim),
            ("value_network", value_network, 1),
        ):
            network = getattr(config, name) if network is None else network
            networks[name] = network_of(
                name, network, obs_dim=spec.obs_dim, outputs=outputs,
                seed=config.seed, backend=config.backend,
            )  # fmt: skip
    return getattr(module, kind).from_config(
        spec,
        config.agent,
        config.device,
        seed=config.seed,
        normalize_observations=config.normalize_observations,
        observation_clip=config.observation_clip,
        **networks,
    )
