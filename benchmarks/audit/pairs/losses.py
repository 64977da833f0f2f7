"""Losses: what is averaged, over what, and with which factor."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from benchmarks.audit.pairs.draws import Inputs, normal, normal_and_classes, weights
from parity_kit import Pair


CLASSES = 4
CLASS_WEIGHTS = (1.0, 2.0, 3.0, 4.0)


def torch_logits(w: dict[str, torch.Tensor], x: torch.Tensor, *_: object) -> object:
    """A linear layer."""
    return x @ w["kernel"]


def jax_logits(w: dict[str, jax.Array], x: jax.Array, *_: object) -> object:
    """A linear layer."""
    return x @ w["kernel"]


def both(torch_loss: Callable, jax_loss: Callable, inputs: Inputs) -> Pair:
    """A linear layer on both sides, under these losses."""
    return Pair(
        torch=torch_logits,
        jax=jax_logits,
        inputs=inputs,
        weights=weights(kernel=(5, CLASSES)),
        loss=(torch_loss, jax_loss),
    )


LABELLED = normal_and_classes((6, 5), CLASSES)
REGRESSION = normal((6, 5), (6, CLASSES))


def torch_smoothed(y: torch.Tensor, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Cross entropy with a tenth of the weight spread over all classes."""
    return torch.nn.functional.cross_entropy(y, k, label_smoothing=0.1)


def jax_smoothed(y: jax.Array, x: jax.Array, k: jax.Array) -> jax.Array:
    """Cross entropy with a tenth of the weight spread over all classes."""
    labels = optax.smooth_labels(jax.nn.one_hot(k, CLASSES, dtype=y.dtype), 0.1)
    return optax.softmax_cross_entropy(y, labels).mean()


smoothed_cross_entropy = both(torch_smoothed, jax_smoothed, LABELLED)


def torch_binary(y: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of logits against probabilities."""
    return torch.nn.functional.binary_cross_entropy_with_logits(y, torch.sigmoid(t))


def jax_binary(y: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """Binary cross entropy of logits against probabilities."""
    return optax.sigmoid_binary_cross_entropy(y, jax.nn.sigmoid(t)).mean()


binary_cross_entropy = both(torch_binary, jax_binary, REGRESSION)


def torch_huber(y: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Huber's loss, its corner at a half."""
    return torch.nn.functional.huber_loss(y, t, delta=0.5)


def jax_huber(y: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """Huber's loss, its corner at a half."""
    return optax.huber_loss(y, t, delta=0.5).mean()


huber = both(torch_huber, jax_huber, REGRESSION)


def torch_kl(y: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The divergence summed over classes, averaged over the batch."""
    f = torch.nn.functional
    return f.kl_div(y.log_softmax(-1), t.softmax(-1), reduction="batchmean")


def torch_kl_mean(y: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The divergence by PyTorch's default: averaged over classes as well."""
    return torch.nn.functional.kl_div(y.log_softmax(-1), t.softmax(-1))


def jax_kl(y: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """The divergence summed over classes, averaged over the batch."""
    return optax.kl_divergence(jax.nn.log_softmax(y), jax.nn.softmax(t)).mean()


kl_batch_mean = both(torch_kl, jax_kl, REGRESSION)
kl_mean = both(torch_kl_mean, jax_kl, REGRESSION)


def torch_square(y: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Mean square error."""
    return torch.nn.functional.mse_loss(y, t)


def jax_l2(y: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """Optax's `l2_loss`: half the square."""
    return optax.l2_loss(y, t).mean()


l2_half = both(torch_square, jax_l2, REGRESSION)


def torch_weighted(y: torch.Tensor, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Cross entropy weighted by class, divided by the sum of the weights."""
    weight = torch.tensor(CLASS_WEIGHTS, dtype=y.dtype)
    return torch.nn.functional.cross_entropy(y, k, weight=weight)


def jax_weighted(y: jax.Array, x: jax.Array, k: jax.Array) -> jax.Array:
    """Cross entropy weighted by class, divided by the number of rows."""
    each = optax.softmax_cross_entropy_with_integer_labels(y, k)
    return (each * jnp.asarray(CLASS_WEIGHTS, y.dtype)[k]).mean()


weighted_cross_entropy = both(torch_weighted, jax_weighted, LABELLED)


def padded(seed: int) -> tuple[np.ndarray, ...]:
    """Rows and their classes, where two rows have none (-100)."""
    x, classes = LABELLED(seed)
    classes[-2:] = -100
    return x, classes


def torch_ignoring(y: torch.Tensor, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Cross entropy averaged over the rows that have a class."""
    return torch.nn.functional.cross_entropy(y, k)


def jax_ignoring(y: jax.Array, x: jax.Array, k: jax.Array) -> jax.Array:
    """Cross entropy of the rows that have a class, averaged over all rows."""
    known = k >= 0
    each = optax.softmax_cross_entropy_with_integer_labels(y, jnp.where(known, k, 0))
    return (each * known).mean()


ignored_rows = both(torch_ignoring, jax_ignoring, padded)
