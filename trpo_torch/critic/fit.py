"""The critic's fit to a batch's returns: its loss, and minibatch gradient descent."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from trpo.agent.sharding import Minibatches
from trpo.config.agent import StepNumbers, StepOptions
from trpo.data.batch import Batch
from trpo_torch.devices import reduction
from trpo_torch.devices.chunked import in_chunks
from trpo_torch.devices.reduction import Shard


class Samples(NamedTuple):
    """Inputs of a critic and the returns that its values are to be.

    Attributes:
        inputs: observations, or `trpo.data.batch.Sequences`.
        returns: of each, [n, 1] or [T, B, 1].
        valid: 1 where an entry is a sample, else 0; None where all are.
        shard: what they are of all samples, where other devices have more; else None.
    """

    inputs: Any
    returns: Tensor
    valid: Tensor | None = None
    shard: Shard | None = None

    def errors(self, values: Tensor) -> Tensor:
        """Values less returns; 0 where an entry is no sample."""
        errors = values - self.returns
        return errors if self.valid is None else self.valid * errors

    def mean(self, terms: Tensor) -> Float[Tensor, ""]:
        """Mean over the samples of terms that are 0 elsewhere."""
        if self.valid is None or self.shard is not None:
            return reduction.mean(terms.reshape(-1, 1))
        return terms.sum() / self.valid.sum()


class Regression(NamedTuple):
    """A critic's fit to one batch.

    Attributes:
        critic: the module, whose parameters are changed.
        values: (parameters in their order, inputs) -> values, shaped like the returns.
        minibatches: of each gradient step, as the epochs' orders have them.
    """

    critic: nn.Module
    values: Callable[[Sequence[Tensor], Any], Tensor]
    minibatches: Iterable[Samples]

    def views(self, flat: Float[Tensor, " p"]) -> list[Tensor]:
        """Pieces of a vector, shaped like the critic's parameters."""
        parameters = list(self.critic.parameters())
        pieces = flat.split([parameter.numel() for parameter in parameters])
        return [p.view_as(like) for p, like in zip(pieces, parameters, strict=True)]


def loss_and_gradient(
    regression: Regression, theta: Float[Tensor, " p"], gradient: Float[Tensor, " p"]
) -> Callable[[Samples], Tensor]:
    """Samples -> mean loss at flat parameters, its gradient put in `gradient`.

    `theta` is read at each call, so it may change in place.
    """
    leaves = [piece.detach().requires_grad_() for piece in regression.views(theta)]

    @torch.enable_grad()
    def loss(samples: Samples) -> Tensor:
        errors = samples.errors(regression.values(leaves, samples.inputs))
        mean_loss = samples.mean(errors**2)
        pieces = torch.autograd.grad(
            mean_loss, leaves, allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            torch.cat([piece.reshape(-1) for piece in pieces], out=gradient)
        return mean_loss.detach()

    return loss


LossAndGradient = Callable[[Regression, Tensor, Tensor], Callable[[Samples], Tensor]]


class ValueFit(NamedTuple):
    """Outcome of the critic's fit.

    Attributes:
        loss: mean over all steps of the (minibatch's) loss before the step.
        mae: mean absolute error over the batch after the fit.
        explained_variance: 1 - var(returns - values) / var(returns) after the fit.
    """

    loss: Tensor
    mae: Tensor
    explained_variance: Tensor


@torch.no_grad()
def fit_critic(
    critic: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    orders: np.ndarray | Minibatches,
    options: StepOptions,
    numbers: StepNumbers,
    loss_and_gradient: LossAndGradient = loss_and_gradient,
) -> ValueFit:
    """Fit `critic` to the batch's returns, in place.

    Args:
        critic: The module, whose parameters are changed.
        optimizer: Of the critic's parameters.
        batch: Samples.
        orders: [epochs, N] order in which each epoch visits the samples.
        options: Say the samples of a gradient step; an epoch's last step takes the
            rest.
        numbers: Of this update.
        loss_and_gradient: As the one here, by another way.
    """
    regression = sample_regression(critic, batch, orders, options)
    losses = descend(regression, optimizer, numbers.max_grad_norm, loss_and_gradient)
    rows = options.batch_chunk_size
    values = in_chunks(critic, rows, batch.obs) if rows else critic(batch.obs)
    errors = batch.returns - values
    return summary(losses, errors, batch.returns)


def sample_regression(
    critic: nn.Module,
    batch: Batch,
    orders: np.ndarray | Minibatches,
    options: StepOptions,
) -> Regression:
    """The regression problem that `fit_critic` solves."""
    names = [name for name, _ in critic.named_parameters()]

    def values(parameters: Sequence[Tensor], obs: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        return functional_call(critic, named, (obs,))

    size = options.value_minibatch_size or len(batch.obs)
    return Regression(critic, values, _minibatches(batch, orders, size))


def summary(
    losses: Tensor, errors: Float[Tensor, "n 1"], returns: Float[Tensor, "n 1"]
) -> ValueFit:
    """A fit's numbers, from the loss of each step and the errors after the last."""
    return ValueFit(
        loss=losses.mean(),
        mae=reduction.mean(errors.abs()),
        explained_variance=explained_variance(errors, returns),
    )


def explained_variance(errors: Tensor, returns: Tensor) -> Tensor:
    """1 - var(errors) / var(returns), population variances; 0 for constant returns."""
    variance = reduction.variance(returns)
    safe = torch.where(variance > 0, variance, 1.0)
    return torch.where(variance > 0, 1.0 - reduction.variance(errors) / safe, 0.0)


def _minibatches(
    batch: Batch, orders: np.ndarray | Minibatches, size: int
) -> Iterator[Samples]:
    """The samples of each gradient step."""
    if isinstance(orders, Minibatches):
        yield from _sharded_minibatches(batch, orders)
        return
    pair = (batch.obs, batch.returns)
    # The whole batch needs no gathering: its order can't matter.
    everything = size >= len(batch.obs)
    for order in torch.as_tensor(orders, device=batch.obs.device):
        for chosen in order.split(size):
            # Not by `array[chosen]`, which takes longer.
            picked = (array.index_select(0, chosen) for array in pair)
            yield Samples(*(pair if everything else picked))


def _sharded_minibatches(batch: Batch, minibatches: Minibatches) -> Iterator[Samples]:
    """This device's part of each minibatch, where others have the rest."""
    shard = reduction.current()
    assert shard is not None
    indices = torch.as_tensor(minibatches.indices, device=batch.obs.device).long()
    weights = torch.as_tensor(minibatches.weights).to(batch.returns)
    for chosen, weight in zip(
        indices.flatten(0, 1), weights.flatten(0, 1), strict=True
    ):
        obs, returns = batch.obs[chosen], batch.returns[chosen]
        yield Samples(obs, returns, shard=shard._replace(weights=weight))


@torch.no_grad()
def descend(
    regression: Regression,
    optimizer: torch.optim.Optimizer,
    max_grad_norm: float,
    loss_and_gradient: LossAndGradient = loss_and_gradient,
) -> Float[Tensor, " steps"]:
    """Minibatch gradient descent, in place.

    Args:
        regression: What to fit.
        optimizer: Of the critic's parameters.
        max_grad_norm: Gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)).
        loss_and_gradient: As in `fit_critic`.

    Returns:
        The loss before each step.
    """
    parameters = list(regression.critic.parameters())
    theta = torch.cat([p.detach().reshape(-1) for p in parameters])
    gradient = torch.empty_like(theta)
    loss = loss_and_gradient(regression, theta, gradient)
    flat_optimizer = _flat_optimizer(optimizer, parameters, theta)
    theta.grad = gradient
    losses = []
    for minibatch in regression.minibatches:
        losses.append(_over_devices(loss, minibatch, gradient))
        clip_by_norm(gradient, max_grad_norm)
        flat_optimizer.step()
    for parameter, piece in zip(parameters, regression.views(theta), strict=True):
        parameter.copy_(piece)
    _store_state(optimizer, regression, flat_optimizer.state[theta])
    return torch.stack(losses)


def _over_devices(
    loss: Callable[[Samples], Tensor], samples: Samples, gradient: Float[Tensor, " p"]
) -> Tensor:
    """The mean loss on all devices, and its gradient in `gradient`."""
    if samples.shard is None:
        return loss(samples)
    with reduction.sharded(samples.shard):
        mean_loss, summed = reduction.together(lambda: (loss(samples), gradient))
    gradient.copy_(summed)
    return mean_loss


def clip_by_norm(gradient: Float[Tensor, " p"], max_norm: float) -> None:
    """Scale a flat gradient in place by min(1, max_norm / (norm + 1e-6)).

    As torch.nn.utils.clip_grad_norm_ does, in a third of its time on a CPU.
    """
    norm = torch.sqrt((gradient * gradient).sum())
    gradient *= (max_norm / (norm + 1e-6)).clamp(max=1.0)


def _flat_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    theta: Float[Tensor, " p"],
) -> torch.optim.Optimizer:
    """An optimiser of a vector, set and grown like one of the parameters in it.

    Its step is one operation, where one of each array takes a tenth of the time of a
    small critic's fit.
    """
    (group,) = optimizer.param_groups
    settings = {name: group[name] for name in optimizer.defaults}
    flat_optimizer = type(optimizer)([theta], **settings)
    states = [optimizer.state.get(parameter, {}) for parameter in parameters]
    for name, value in states[0].items():
        if name == "step":
            flat_optimizer.state[theta][name] = value.clone()
        else:
            pieces = [state[name].reshape(-1) for state in states]
            flat_optimizer.state[theta][name] = torch.cat(pieces)
    return flat_optimizer


def _store_state(
    optimizer: torch.optim.Optimizer,
    regression: Regression,
    state: Mapping[str, Tensor],
) -> None:
    """Cut the state of a vector's optimiser into that of the parameters' optimiser."""
    parameters = list(regression.critic.parameters())
    for name, value in state.items():
        copies = [value] * len(parameters)
        pieces = copies if name == "step" else regression.views(value)
        for parameter, piece in zip(parameters, pieces, strict=True):
            optimizer.state[parameter][name] = piece.clone()
