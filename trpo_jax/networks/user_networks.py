"""Networks that the user brings: checked, copied, and given what an agent needs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import Image
from trpo.spaces.user_networks import (
    pixel_scales,
    require_outputs,
    require_same,
    require_stateless,
    run_or_refuse,
)
from trpo_jax.distributions import Distribution
from trpo_jax.networks.feedforward import from_network


class CustomPolicy(nnx.Module):
    """Observations -> distribution over actions, by a network of any kind.

    Args:
        network: Observations [n, obs_dim] -> outputs [n, head.output_dim].
        head: The distribution and its sizes; some have a free log_std.
        images: In observations, whose pixels the network gets from 0 to 1.
    """

    head: Head
    network: nnx.Module
    images: tuple[Image, ...]
    log_std: nnx.Param[Any]

    def __init__(
        self, network: nnx.Module, head: Head, images: tuple[Image, ...] = ()
    ) -> None:
        self.head, self.network, self.images = head, network, images
        if head.family.free_log_std:
            self.log_std = nnx.Param(jnp.zeros(head.reals))

    def __call__(
        self, obs: Float[jax.Array, "n obs_dim"], mask: jax.Array | None = None
    ) -> Distribution:
        """The distribution at each observation; of options that `mask` allows."""
        log_std = self.log_std[...] if self.head.family.free_log_std else None
        outputs = self.network(_scaled(obs, self.images))
        return from_network(self.head, outputs, log_std, mask)


class CustomCritic(nnx.Module):
    """Observations -> value, by a network of any kind.

    Args:
        network: Observations [n, obs_dim] -> values [n, 1].
        images: In observations, whose pixels the network gets from 0 to 1.
    """

    network: nnx.Module
    images: tuple[Image, ...]

    def __init__(self, network: nnx.Module, images: tuple[Image, ...] = ()) -> None:
        self.network, self.images = network, images

    def __call__(self, obs: Float[jax.Array, "n obs_dim"]) -> Float[jax.Array, "n 1"]:
        """Value of each observation."""
        return self.network(_scaled(obs, self.images))


def _scaled(obs: jax.Array, images: tuple[Image, ...]) -> jax.Array:
    if not images:
        return obs
    scales = pixel_scales(images, obs.shape[1])
    return obs / jnp.asarray(scales, obs.dtype)[None]


def checked_network(name: str, network: Any, obs_dim: int, outputs: int) -> nnx.Module:
    """A copy of a network that is a function of its parameters and of each row alone.

    Args:
        name: Of the argument, for messages.
        network: What was given.
        obs_dim: Entries of an observation.
        outputs: Numbers that it has to put out for one.

    Raises:
        ValueError: it is no module, has nothing to learn, puts out another shape, or
            is random or keeps a state (dropout, batch normalisation).
    """
    if not isinstance(network, nnx.Module):
        raise ValueError(f"`{name}`: expected a flax.nnx.Module, got {type(network)}.")
    network = nnx.clone(network)
    variables = [variable for _, variable in nnx.to_flat_state(nnx.state(network))]
    others = [v for v in variables if not isinstance(v, nnx.Param)]
    require_stateless(name, [type(variable).__name__ for variable in others])
    if not variables:
        raise ValueError(f"`{name}`: expected parameters, got a network without any.")
    rows = jnp.linspace(-1.0, 1.0, 3 * obs_dim).reshape(3, obs_dim)
    whole = run_or_refuse(name, network, rows)
    require_outputs(name, whole, (3, outputs))
    again = network(rows)
    alone = jnp.concatenate([network(row[None]) for row in rows])
    require_same(name, *map(np.asarray, (whole, again, alone)))
    return network
