"""A policy for code of one's own: from raw observations to environments' actions."""

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from trpo.data.normalization import ObservationNormalizer
from trpo.spaces.spaces import PolicySpec, filled
from trpo_torch.devices.device import matmul_precision


class PurePolicy(nn.Module):
    """Raw observations -> actions of the environment.

    Args:
        network: (observations [B, obs_dim], mask) -> distribution; it is copied.
        spec: Of the agent.
        normalizer: Of observations, or None.
        precision: Of matrix products.
    """

    network: nn.Module
    spec: PolicySpec
    precision: str

    mean: Tensor | None
    std: Tensor
    clip: Tensor

    def __init__(
        self,
        network: nn.Module,
        spec: PolicySpec,
        normalizer: ObservationNormalizer | None,
        precision: str,
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.spec, self.precision = spec, precision
        like = next(network.parameters())
        vectors = (None,) * 3 if normalizer is None else normalizer.as_vectors()
        for name, vector in zip(("mean", "std", "clip"), vectors, strict=True):
            tensor = None if vector is None else torch.as_tensor(vector).to(like)
            self.register_buffer(name, tensor)

    def forward(
        self,
        obs: Float[Tensor, "*b obs_dim"],
        noise: Tensor | np.ndarray | None = None,
        mask: Tensor | None = None,
    ) -> Any:
        """Action of the environment for each observation; the mode without noise.

        Args:
            obs: [B, obs_dim], or one [obs_dim].
            noise: [B, act_dim] as `spec.head.draw_noise` makes it.
            mask: [B, options] 0 where an option can't be taken.
        """
        like = next(self.network.parameters())
        rows = obs.reshape(-1, self.spec.obs_dim).to(like.device)
        if self.mean is not None:
            rows = (rows - self.mean) / self.std
            rows = torch.minimum(torch.maximum(rows, -self.clip), self.clip)
        with matmul_precision(self.precision):
            distribution = self.network(rows.to(like), mask)
        if noise is None:
            actions = distribution.mode()
        else:
            noise = torch.as_tensor(noise).to(like).reshape(len(rows), -1)
            actions = distribution.sample(noise)
        sent = to_environment(self.spec, actions)
        return sent if obs.ndim > 1 else _first(sent)


def to_environment(spec: PolicySpec, actions: Tensor) -> Any:
    """Sampled actions [B, act_dim] as the environment takes them, [B, …].

    `PolicySpec.to_environment` of `trpo.spaces.spaces` on the device: counted from the
    space's start, squashed or else clipped to its bounds, in its shape and dtype; of a
    Dict or Tuple, one of such tensors.
    """
    if spec.structure is not None:
        parts = (to_environment(part, actions[:, c]) for c, part in spec.parts)
        return filled(spec.structure, parts)
    if spec.action_start is not None:
        # Not as floats, which have no digits left for a start of 2**60.
        actions = actions.long() + _constant(spec.action_start, actions)
    low, high = (
        _constant(bound, actions) for bound in (spec.action_low, spec.action_high)
    )
    if spec.head.family.squashed:
        share = 0.5 * (torch.tanh(actions) + 1.0)
        actions = (1.0 - share) * low + share * high
    clipped = torch.minimum(torch.maximum(actions, low), high)
    dtype = getattr(torch, spec.action_dtype.name)
    return clipped.to(dtype).reshape(-1, *spec.action_shape)


def _constant(array: np.ndarray, like: Tensor) -> Tensor:
    """A bound, in the precision in which actions are compared with it."""
    whole = not like.is_floating_point() and array.dtype.kind in "iu"
    return torch.as_tensor(array, device=like.device).to(
        torch.int64 if whole else like.dtype
    )


def _first(sent: Any) -> Any:
    if isinstance(sent, dict):
        return {name: _first(part) for name, part in sent.items()}
    return tuple(map(_first, sent)) if isinstance(sent, tuple) else sent[0]
