"""PyTorch alone: a policy, and Fisher products, in chunks of a batch's rows.

Sums over the samples are sums of the chunks' sums, with weights as in
`devices/reduction.py`. JAX's `in_chunks` is traced, and needs no more.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trpo_torch.devices import reduction
from trpo_torch.devices.chunked import in_chunks, split
from trpo_torch.devices.reduction import Shard
from trpo_torch.distributions import Distribution
from trpo_torch.policy_step.fisher import FISHER_PRODUCTS, PolicyFunction, Product


class ChunkedPolicy:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Args:
        policy_at: (observations, mask) of some rows -> the policy at these.
        obs: [n, obs_dim] observations.
        mask: [n, options] of actions, or None.
        rows: Of a chunk, at least 2 and fewer than n.
    """

    def __init__(
        self,
        policy_at: Callable[..., PolicyFunction],
        obs: Float[Tensor, "n obs_dim"],
        mask: Tensor | None,
        rows: int,
    ) -> None:
        self._policy_at, self._rows = policy_at, rows
        self._arrays = (obs,) if mask is None else (obs, mask)

    def __call__(self, theta: Float[Tensor, " p"]) -> Distribution:
        """The distribution at each observation."""
        kind: Any = None

        def fields(theta: Tensor, *part: Tensor) -> tuple[Tensor, ...]:
            nonlocal kind
            distribution = self._at(part)(theta)
            kind = type(distribution)
            return tuple(distribution)

        def at(*part: Tensor) -> Any:
            # Its derivative computes the chunk again instead of keeping activations.
            if torch.is_grad_enabled() and theta.requires_grad:
                return checkpoint(
                    fields, theta, *part, use_reentrant=False, preserve_rng_state=False
                )
            return fields(theta, *part)

        joined = in_chunks(at, self._rows, *self._arrays)
        return kind(*joined)

    def total(self, of_chunk: Callable[[PolicyFunction], Tensor]) -> Tensor:
        """Sum over chunks of what is this chunk's part of a mean over all samples.

        Args:
            of_chunk: The policy at a chunk's observations -> its part; called where
                the samples at hand are those of the chunk.
        """
        shard, size = reduction.current(), len(self._arrays[0])
        weights = self._arrays[0].new_full((size, 1), 1.0 / size)
        weights = weights if shard is None else shard.weights

        def part(weights: Tensor, *arrays: Tensor) -> Tensor:
            with reduction.sharded(Shard(weights, across=False)):
                return of_chunk(self._at(arrays))

        chunks = split((weights, *self._arrays), self._rows)
        summed = part(*next(chunks))
        for chunk in chunks:
            summed = summed + part(*chunk)
        return summed

    def _at(self, part: tuple) -> PolicyFunction:
        return self._policy_at(part[0], part[1] if len(part) > 1 else None)


def _product(
    build: Callable[..., Product], policy: ChunkedPolicy, theta: Tensor, damping: Any
) -> Product:
    """The product of each chunk, built anew each time; only their sum is kept."""

    def product(v: Tensor) -> Tensor:
        f_v = policy.total(lambda part: build(part, theta, 0.0)(v))
        return reduction.total(f_v) + damping * v

    return product


for _build in FISHER_PRODUCTS.values():
    _build.register(ChunkedPolicy, functools.partial(_product, _build))
