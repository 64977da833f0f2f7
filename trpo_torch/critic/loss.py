"""The critic's loss, a function of its values; chosen once from the configuration.

With e = v - y the error of a value v against its return y, a loss is the mean over the
samples of rho(e), of which rho' / 2 is called slope and rho'' / 2 curvature: of the
squared error, they are e and 1.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trpo.config.run import TRPOConfig
from trpo_torch.devices import reduction
from trpo_torch.devices.reduction import Shard
from trpo_torch.networks import mlp
from trpo_torch.networks.feedforward import Critic


class Targets(NamedTuple):
    """Targets of the critic's values, each [n, 1] or [T, B, 1].

    Attributes:
        returns: y.
        valid: 1 where an entry is a sample, else 0; None where all are.
        old_values: the critic's before the update; None where no loss asks for them.
    """

    returns: Tensor
    valid: Tensor | None = None
    old_values: Tensor | None = None

    def errors(self, values: Tensor) -> Tensor:
        """Values less returns; 0 where an entry is no sample."""
        errors = values - self.returns
        return errors if self.valid is None else self.valid * errors


class Loss(NamedTuple):
    """A loss of single samples.

    Attributes:
        of: (values, targets) -> rho and slope of each sample.
        curvature: (values, targets) -> curvature of each sample.
    """

    of: Callable[[Tensor, Targets], tuple[Tensor, Tensor]]
    curvature: Callable[[Tensor, Targets], Tensor]


def squared_error(_config: TRPOConfig) -> Loss:
    """rho(e) = e**2."""

    def of(values: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        errors = targets.errors(values)
        return errors**2, errors

    return Loss(of, lambda values, _targets: torch.ones_like(values))


def huber(config: TRPOConfig) -> Loss:
    """rho(e) = e**2 where |e| <= delta, else 2 delta |e| - delta**2.

    Huber 1964, "Robust Estimation of a Location Parameter", doubled, so that the
    squared error is its limit for delta -> infinity. The slope is his psi, e clipped to
    [-delta, delta].
    """
    delta = config.huber_delta

    def of(values: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        errors = targets.errors(values)
        slopes = errors.clamp(-delta, delta)
        return slopes * (2.0 * errors - slopes), slopes

    def curvature(values: Tensor, targets: Targets) -> Tensor:
        return ((values - targets.returns).abs() <= delta).to(values.dtype)

    return Loss(of, curvature)


LOSSES = {"squared_error": squared_error, "huber": huber}


def value_loss(config: TRPOConfig) -> Loss:
    """The configured loss, clipped if that is configured."""
    loss = LOSSES[config.value_loss](config)
    return loss if config.value_clip is None else clipped(loss, config.value_clip)


def clipped(loss: Loss, clip: float) -> Loss:
    """The greater of a loss at v and at v_old + clip(v - v_old, -clip, clip).

    Dhariwal et al. 2017, "OpenAI Baselines", ppo2 (Engstrom et al. 2020,
    "Implementation Matters in Deep Policy Gradients", section 3). A value that has come
    nearer to its return by more than `clip` has nothing left to gain: slope and
    curvature are 0. Inside the range v itself is taken, not the rounded sum above.

    Args:
        loss: rises with |e|, like all in `LOSSES`.
        clip: Largest change of a value, in the units of returns.
    """

    def bounds(values: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        old, returns = targets.old_values, targets.returns
        assert old is not None
        values = values.detach()
        change = values - old
        bound = old + change.clamp(-clip, clip)
        nearer = (bound - returns).abs() > (values - returns).abs()
        return bound, (change.abs() > clip) & nearer

    def of(values: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        bound, held = bounds(values, targets)
        terms, slopes = loss.of(values, targets)
        at_bound, _ = loss.of(bound, targets)
        return torch.where(held, at_bound, terms), slopes.masked_fill(held, 0.0)

    def curvature(values: Tensor, targets: Targets) -> Tensor:
        _, held = bounds(values, targets)
        return loss.curvature(values, targets).masked_fill(held, 0.0)

    return Loss(of, curvature)


def mean(terms: Tensor, valid: Tensor | None) -> Float[Tensor, ""]:
    """Mean over the samples, of terms that are 0 elsewhere; 0 where there are none."""
    if valid is None:
        return reduction.mean(terms)
    return terms.sum() / valid.sum().clamp(min=1.0)


def weights(targets: Targets) -> Tensor | float:
    """Weight of each entry in `mean`."""
    if targets.valid is None:
        return reduction.row_weight(len(targets.returns))
    return targets.valid / targets.valid.sum().clamp(min=1.0)


class Part(NamedTuple):
    """Samples, all or some.

    Attributes:
        inputs: of the critic: observations, or `trpo.data.batch.Sequences`.
        targets: of its values.
        shard: what they are of the samples, where other devices have more; else None.
    """

    inputs: Any
    targets: Targets
    shard: Shard | None = None


class Regression(NamedTuple):
    """A critic's fit to one batch.

    Attributes:
        critic: the module, whose parameters are changed.
        values: (parameters in their order, inputs) -> values, shaped like the returns.
        loss: of single samples.
        whole: the batch.
        minibatches: of each gradient step, as the epochs' orders have them.
    """

    critic: nn.Module
    values: Callable[[Sequence[Tensor], Any], Tensor]
    loss: Loss
    whole: Part
    minibatches: Iterable[Part]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The critic's."""
        return list(self.critic.parameters())

    def flat(self) -> Float[Tensor, " p"]:
        """A copy of the critic's parameters as one vector."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    def views(self, flat: Float[Tensor, " p"]) -> list[Tensor]:
        """Pieces of a vector, shaped like the critic's parameters."""
        return _views(flat, self.parameters)

    @torch.no_grad()
    def assign(self, theta: Float[Tensor, " p"]) -> None:
        """Copy a vector into the critic's parameters."""
        for parameter, piece in zip(self.parameters, self.views(theta), strict=True):
            parameter.copy_(piece)


def loss_and_gradient(
    regression: Regression,
    gradient: Float[Tensor, " p"],
    parameters: Sequence[Tensor] | None = None,
) -> Callable[[Part], Tensor]:
    """Part -> mean loss at the critic's parameters, its gradient put in `gradient`.

    At others like them if `parameters` are given. They are read at each call, so they
    may change in place.
    """
    critic = regression.critic
    parameters = regression.parameters if parameters is None else parameters
    if isinstance(critic, Critic) and critic.architecture.by_hand:
        activation = critic.architecture.activation
        return _by_hand(regression.loss, parameters, activation, gradient)
    return _automatic(regression, parameters, gradient)


def _by_hand(
    loss: Loss,
    parameters: Sequence[Tensor],
    activation: str,
    gradient: Float[Tensor, " p"],
) -> Callable[[Part], Tensor]:
    layers = mlp.layers_of([parameter.detach() for parameter in parameters])
    gradients = mlp.layers_of(_views(gradient, parameters))

    @torch.no_grad()
    def find(part: Part) -> Tensor:
        obs, targets, _ = part
        *inputs, values = mlp.forward(layers, obs, activation)
        terms, slopes = loss.of(values, targets)
        cotangent = slopes * (2.0 * weights(targets))
        mlp.pull(layers, inputs, cotangent, gradients, activation)
        return mean(terms, targets.valid)

    return find


def _automatic(
    regression: Regression, parameters: Sequence[Tensor], gradient: Float[Tensor, " p"]
) -> Callable[[Part], Tensor]:
    leaves = [parameter.detach().requires_grad_() for parameter in parameters]

    def find(part: Part) -> Tensor:
        with torch.enable_grad():
            values = regression.values(leaves, part.inputs)
            terms, _ = regression.loss.of(values, part.targets)
            mean_loss = mean(terms, part.targets.valid)
            pieces = torch.autograd.grad(
                mean_loss, leaves, allow_unused=True, materialize_grads=True
            )
        torch.cat([piece.reshape(-1) for piece in pieces], out=gradient)
        return mean_loss.detach()

    return find


def _views(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Pieces of a vector, shaped like other tensors."""
    pieces = flat.split([tensor.numel() for tensor in like])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, like, strict=True)]
