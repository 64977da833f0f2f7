"""Networks that the user brings: checked, copied, and given what an agent needs."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import Image
from trpo.spaces.user_networks import (
    pixel_scales,
    require_outputs,
    require_same,
    require_stateless,
    run_or_refuse,
)
from trpo_torch.distributions import Distribution
from trpo_torch.networks.feedforward import from_network


class CustomPolicy(nn.Module):
    """Observations -> distribution over actions, by a network of any kind.

    Args:
        network: Observations [n, obs_dim] -> outputs [n, head.output_dim].
        head: The distribution and its sizes; some have a free log_std.
        images: In observations, whose pixels the network gets from 0 to 1.
    """

    head: Head
    network: nn.Module
    images: tuple[Image, ...]

    log_std: nn.Parameter | None

    def __init__(
        self, network: nn.Module, head: Head, images: tuple[Image, ...] = ()
    ) -> None:
        super().__init__()
        self.head, self.network, self.images = head, network, images
        free = torch.zeros(head.reals) if head.family.free_log_std else None
        self.register_parameter("log_std", None if free is None else nn.Parameter(free))

    def forward(
        self, obs: Float[Tensor, "n obs_dim"], mask: Tensor | None = None
    ) -> Distribution:
        """The distribution at each observation; of options that `mask` allows."""
        outputs = self.network(_scaled(obs, self.images))
        return from_network(self.head, outputs, self.log_std, mask)


class CustomCritic(nn.Module):
    """Observations -> value, by a network of any kind.

    Args:
        network: Observations [n, obs_dim] -> values [n, 1].
        images: In observations, whose pixels the network gets from 0 to 1.
    """

    network: nn.Module
    images: tuple[Image, ...]

    def __init__(self, network: nn.Module, images: tuple[Image, ...] = ()) -> None:
        super().__init__()
        self.network, self.images = network, images

    def forward(self, obs: Float[Tensor, "n obs_dim"]) -> Float[Tensor, "n 1"]:
        """Value of each observation."""
        return self.network(_scaled(obs, self.images))


def _scaled(obs: Tensor, images: tuple[Image, ...]) -> Tensor:
    if not images:
        return obs
    scales = pixel_scales(images, obs.shape[1])
    return obs / torch.as_tensor(scales, dtype=obs.dtype, device=obs.device)


@torch.no_grad()
def checked_network(name: str, network: Any, obs_dim: int, outputs: int) -> nn.Module:
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
    if not isinstance(network, nn.Module):
        raise ValueError(f"`{name}`: expected a torch.nn.Module, got {type(network)}.")
    network = copy.deepcopy(network).train()
    parameters = list(network.parameters())
    if not parameters or not all(p.requires_grad for p in parameters):
        raise ValueError(
            f"`{name}`: expected parameters, all of which require gradients, got "
            f"{sum(not p.requires_grad for p in parameters)} of {len(parameters)} "
            "that do not."
        )
    random = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    kinds = [type(m).__name__ for m in network.modules() if isinstance(m, random)]
    require_stateless(name, kinds)
    first = parameters[0]
    rows = torch.linspace(-1.0, 1.0, 3 * obs_dim, dtype=first.dtype)
    rows = rows.reshape(3, obs_dim).to(first.device)
    before = [buffer.clone() for buffer in network.buffers()]
    whole = run_or_refuse(name, network, rows)
    require_outputs(name, whole, (3, outputs))
    again = network(rows)
    same = all(
        torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True)
    )
    require_stateless(name, [] if same else ["a buffer that a call changes"])
    alone = torch.cat([network(row[None]) for row in rows])
    require_same(name, *(a.cpu().numpy() for a in (whole, again, alone)))
    return network
