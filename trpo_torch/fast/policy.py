"""A flat policy whose Jacobian and gradients are by hand."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trpo_torch.distributions import Distribution
from trpo_torch.distributions.gaussian import clamp_log_std
from trpo_torch.fast import mlp
from trpo_torch.networks.feedforward import Layer, Policy, from_network, layers_of
from trpo_torch.policy_step.fisher import Linearization, linearize
from trpo_torch.policy_step.objective import gradient_of


class FastPolicy:
    """A policy as a function of its flat parameters [p], at fixed observations.

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
        self._head, self._obs, self._mask = policy.head, obs, mask
        self._activation = policy.architecture.activation
        self._shapes = [parameter.shape for parameter in policy.parameters()]
        self._recorded: tuple[tuple[Tensor, int] | None, Any] = None, None

    def __call__(self, theta: Float[Tensor, " p"]) -> Distribution:
        """The distribution at each observation."""
        free, layers = self._unflatten(theta)
        outputs = mlp.forward(layers, self._obs, self._activation)[-1]
        return self._distribution(outputs, *free)

    def linearize(self, theta: Float[Tensor, " p"]) -> Linearization:
        """As `policy_step.fisher.linearize`."""
        free, layers = self._unflatten(theta.detach())
        outputs, tape = self._record(theta)
        at, head_jvp, head_vjp = self._head_linearized(outputs, *free)
        transposed = self._transposed(theta)

        def jvp(v: Tensor) -> Distribution:
            d_free, tangents = self._unflatten(v)
            d_outputs = mlp.jvp(layers, tape.inputs, tangents, self._activation)
            return head_jvp(d_outputs, *d_free)

        def vjp(u: Distribution) -> tuple[Tensor]:
            return (transposed(*head_vjp(u)),)

        return Linearization(at, jvp, vjp)

    def gradient(
        self, function: Callable[[Distribution], Tensor], theta: Float[Tensor, " p"]
    ) -> tuple[Distribution, tuple[Tensor]]:
        """As `policy_step.objective.gradient_of`: automatic from the last layer on."""
        free, _ = self._unflatten(theta.detach())
        outputs, _ = self._record(theta)
        at, found = gradient_of(self._distribution, function, outputs, *free)
        return at, (self._transposed(theta)(*found),)

    def _distribution(self, outputs: Tensor, *free: Tensor) -> Distribution:
        log_std = free[0] if free else None
        return from_network(self._head, outputs, log_std, self._mask)

    def _head_linearized(self, outputs: Tensor, *free: Tensor) -> Linearization:
        """The distribution, linearised in what the network puts out."""
        if not free or self._head.options:
            return linearize(self._distribution, outputs, *free)
        # A Gaussian's mean is what is put out: autograd takes a tenth of a small
        # product to say so.
        (log_std,) = free
        slope = (log_std == clamp_log_std(log_std)).to(log_std.dtype)
        at = self._distribution(outputs, log_std)

        def jvp(d_mean: Tensor, d_log_std: Tensor) -> Distribution:
            return at._make((d_mean, (slope * d_log_std)[None]))

        def vjp(u: Any) -> tuple[Tensor, Tensor]:
            return u.mean, slope * u.log_std[0]

        return Linearization(at, jvp, vjp)

    def _transposed(self, theta: Tensor) -> Callable[..., Tensor]:
        """Cotangents of outputs, and of log_std if it is free -> that of `theta`."""
        _, layers = self._unflatten(theta.detach())
        _, (inputs, columns) = self._record(theta)

        def vjp(d_outputs: Tensor, *d_free: Tensor) -> Tensor:
            flat = torch.empty_like(theta)
            into, gradients = self._unflatten(flat)
            for piece, found in zip(into, d_free, strict=True):
                piece.copy_(found)
            mlp.vjp(layers, inputs, d_outputs, gradients, self._activation, columns)
            return flat

        return vjp

    def _record(self, theta: Float[Tensor, " p"]) -> tuple[Tensor, mlp.Tape]:
        """Outputs and tape: a gradient and the products at one `theta` share them."""
        at, found = self._recorded
        # Which vector, and how often it has been written to.
        if at is None or at[0] is not theta or at[1] != theta._version:
            _, layers = self._unflatten(theta.detach())
            found = mlp.record(layers, self._obs, self._activation)
            self._recorded = (theta, theta._version), found
        return found

    def _unflatten(self, flat: Tensor) -> tuple[list[Tensor], list[Layer]]:
        """log_std alone, if it is free, and layers, as views of a vector [p]."""
        pieces = flat.split([shape.numel() for shape in self._shapes])
        views = [p.view(s) for p, s in zip(pieces, self._shapes, strict=True)]
        count = int(self._head.family.free_log_std)
        return views[:count], layers_of(views[count:])


linearize.register(FastPolicy, FastPolicy.linearize)
gradient_of.register(FastPolicy, FastPolicy.gradient)
