"""PyTorch alone: a flat policy whose Jacobian is by hand (`networks/mlp.py`)."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from trpo_torch import distributions
from trpo_torch.devices import reduction
from trpo_torch.devices.chunked import ChunkedPolicy
from trpo_torch.distributions import Distribution
from trpo_torch.networks import mlp
from trpo_torch.networks.feedforward import Policy


class FlatPolicy:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Its Jacobian is written by hand, for the architectures of which `networks/mlp.py`
    has it.

    Args:
        policy: Module whose sizes it has; its weights are left alone.
        obs: [n, obs_dim] observations.
        mask: [n, options] 0 where an option can't be taken; None for no mask.
    """

    def __init__(
        self,
        policy: Policy,
        obs: Float[Tensor, "n obs_dim"],
        mask: Tensor | None = None,
    ) -> None:
        self._head, self._mask = policy.head, mask
        self._activation = policy.architecture.activation
        self._shapes = [parameter.shape for parameter in policy.parameters()]
        self._obs = obs
        self._recorded: tuple[tuple[Tensor, int] | None, Any] = None, None

    def __call__(self, theta: Float[Tensor, " p"]) -> Distribution:
        """The distribution at each observation."""
        log_std, layers = self._unflatten(theta)
        outputs = mlp.forward(layers, self._obs, self._activation)[-1]
        return distributions.from_network(self._head, outputs, log_std, self._mask)

    def metric_product(self, theta: Float[Tensor, " p"]) -> Callable[[Tensor], Tensor]:
        """v -> J' M J v, J the Jacobian at `theta` and M the distribution's metric.

        What the samples at hand add to it; see `fisher.py`.
        """
        log_std, layers = self._unflatten(theta.detach())
        outputs, (inputs, transposed) = self._record(theta)
        given = (self._head, outputs, log_std, self._mask)
        push_head, pull_head = distributions.jacobian(*given)
        at = distributions.from_network(*given)

        def product(v: Tensor) -> Tensor:
            d_log_std, tangents = self._unflatten(v)
            d_outputs = mlp.push(layers, inputs, tangents, self._activation)
            m_u = at.fisher_metric(push_head(d_outputs, d_log_std))
            d_outputs, d_log_std = pull_head(reduction.weighted(m_u))
            flat = torch.empty_like(theta)
            into, gradients = self._unflatten(flat)
            if into is not None:
                into.copy_(d_log_std)
            mlp.pull(layers, inputs, d_outputs, gradients, self._activation, transposed)
            return flat

        return product

    def gradient(
        self, theta: Float[Tensor, " p"], function: Callable[[Distribution], Tensor]
    ) -> tuple[Distribution, Float[Tensor, " p"]]:
        """The distribution at `theta`, and the gradient there of a function of it.

        Args:
            theta: Flat parameters.
            function: Distribution -> number.
        """
        outputs, (inputs, transposed) = self._record(theta)
        log_std, layers = self._unflatten(theta.detach())
        leaves = [outputs] if log_std is None else [outputs, log_std]
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        with torch.enable_grad():
            given = (leaves[0], None if log_std is None else leaves[1])
            at = distributions.from_network(self._head, *given, self._mask)
            # A function may depend on one of the two alone, such as an entropy.
            found = torch.autograd.grad(
                function(at), leaves, allow_unused=True, materialize_grads=True
            )
        flat = torch.empty_like(theta)
        into, gradients = self._unflatten(flat)
        if into is not None:
            into.copy_(found[1])
        pull = (inputs, found[0], gradients, self._activation, transposed)
        mlp.pull(layers, *pull)
        return at._make(field.detach() for field in at), flat

    def _record(self, theta: Float[Tensor, " p"]) -> tuple[Tensor, mlp.Tape]:
        """Outputs and tape: a gradient and the products at one `theta` share them."""
        at, found = self._recorded
        # Which vector, and how often it has been written to.
        if at is None or at[0] is not theta or at[1] != theta._version:
            _, layers = self._unflatten(theta.detach())
            found = mlp.record(layers, self._obs, self._activation)
            self._recorded = (theta, theta._version), found
        return found

    def _unflatten(self, flat: Tensor) -> tuple[Tensor | None, list[mlp.Layer]]:
        """log_std, if there is one, and layers, as views of a vector [p]."""
        pieces = flat.split([shape.numel() for shape in self._shapes])
        views = [p.view(s) for p, s in zip(pieces, self._shapes, strict=True)]
        log_std = views.pop(0) if self._head.family.free_log_std else None
        return log_std, mlp.layers_of(views)


def flat_policy(
    policy: nn.Module,
    obs: Float[Tensor, "n obs_dim"],
    mask: Tensor | None = None,
    rows: int | None = None,
) -> Callable[[Tensor], Distribution]:
    """A policy as a function of its flat parameters [p], at fixed observations.

    Args:
        policy: A `Policy`, or any module that is called alike; its weights are left
            alone.
        obs: [n, obs_dim] observations.
        mask: [n, options] 0 where an option can't be taken; None for no mask.
        rows: At most so many at a time; None for all.

    Returns:
        A `FlatPolicy` where it can be one.
    """
    if rows is not None and len(obs) > rows:
        return ChunkedPolicy(functools.partial(flat_policy, policy), obs, mask, rows)
    if isinstance(policy, Policy) and policy.architecture.by_hand:
        return FlatPolicy(policy, obs, mask)
    shapes = {name: p.shape for name, p in policy.named_parameters()}

    def apply(theta: Tensor) -> Distribution:
        pieces = theta.split([shape.numel() for shape in shapes.values()])
        named = {
            name: piece.view(shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }
        return functional_call(policy, named, (obs, mask))

    return apply
