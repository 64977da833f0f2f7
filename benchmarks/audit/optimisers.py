"""Optimisers: 100 steps of `torch.optim` and of optax on the same small network.

    python -m benchmarks.audit optimisers [ROW ...]

The learning rate has no default in optax, so that it is given on both sides; the rest
is as it comes first, and then as `setting` says.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import Tensor

from benchmarks.audit.rows import Row, pairs_of
from parity_kit import Pair


STEPS = 100


def torch_network(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Two layers."""
    hidden = torch.tanh(x @ weights["first"] + weights["bias"])
    return hidden @ weights["second"]


def jax_network(weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Two layers."""
    hidden = jnp.tanh(x @ weights["first"] + weights["bias"])
    return hidden @ weights["second"]


def torch_loss(output: Tensor, x: Tensor) -> Tensor:
    """Mean square against the inputs' sines."""
    return (output - torch.sin(3 * x[:, :2])).square().mean()


def jax_loss(output: jax.Array, x: jax.Array) -> jax.Array:
    """The same."""
    return jnp.square(output - jnp.sin(3 * x[:, :2])).mean()


def batch(seed: int) -> tuple:
    """A batch that stays the same over all steps."""
    return (np.random.default_rng(seed).standard_normal((16, 3)),)


def weights(seed: int) -> dict[str, np.ndarray]:
    """Initial weights."""
    rng = np.random.default_rng([seed, 1])
    shapes = {"first": (3, 5), "bias": (5,), "second": (5, 2)}
    return {name: 0.5 * rng.standard_normal(s) for name, s in shapes.items()}


def matrices(seed: int) -> dict[str, np.ndarray]:
    """Initial weights of the network without a bias, for those that want matrices."""
    return {n: a for n, a in weights(seed).items() if n != "bias"}


def torch_matrices(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Two layers without a bias."""
    return torch.tanh(x @ weights["first"]) @ weights["second"]


def jax_matrices(weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Two layers without a bias."""
    return jnp.tanh(x @ weights["first"]) @ weights["second"]


def made(kind: type[torch.optim.Optimizer], **options: Any) -> Callable:
    """Makes PyTorch's optimiser of parameters."""

    def make(parameters: Any) -> torch.optim.Optimizer:
        return kind(parameters, **options)

    return make


class ClippedSGD(torch.optim.SGD):
    """Gradient descent, all gradients together clipped to norm 0.1."""

    def step(self, closure: Any = None) -> Any:
        """Clip, and step."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        return super().step(closure)


def of(theirs: Callable, ours: optax.GradientTransformation) -> Pair:
    """100 steps of both."""
    return Pair(
        torch=torch_network, jax=jax_network, inputs=batch, weights=weights,
        loss=(torch_loss, jax_loss), optimizer=(theirs, ours), steps=STEPS,
    )  # fmt: skip


def of_matrices(theirs: Callable, ours: optax.GradientTransformation) -> Pair:
    """100 steps of both, without a bias."""
    return Pair(
        torch=torch_matrices, jax=jax_matrices, inputs=batch, weights=matrices,
        loss=(torch_loss, jax_loss), optimizer=(theirs, ours), steps=STEPS,
    )  # fmt: skip


O = torch.optim  # noqa: E741
ROWS: dict[str, Row] = {
    "SGD": Row(
        "SGD(lr)", "sgd(lr)", of(made(O.SGD, lr=0.1), optax.sgd(0.1)), "The same.",
    ),
    "SGD, momentum": Row(
        "SGD(lr, momentum=0.9)", "sgd(lr, momentum=0.9)",
        of(made(O.SGD, lr=0.05, momentum=0.9), optax.sgd(0.05, momentum=0.9)),
        "The same: the sum of gradients is not divided by anything on either side.",
    ),
    "SGD, Nesterov": Row(
        "SGD(lr, momentum=0.9, nesterov=True)", "sgd(lr, momentum=0.9, nesterov=True)",
        of(made(O.SGD, lr=0.05, momentum=0.9, nesterov=True),
           optax.sgd(0.05, momentum=0.9, nesterov=True)), "The same.",
    ),
    "SGD, dampened": Row(
        "SGD(lr, momentum=0.9, dampening=0.9)",
        "chain(ema(0.9, debias=False), scale(-lr))",
        of(made(O.SGD, lr=0.1, momentum=0.9, dampening=0.9),
           optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1))),
        "PyTorch takes the first gradient whole and dampens from the second on; a "
        "moving average starts from zero. Nothing in optax does the first.",
    ),
    "SGD, weight decay": Row(
        "SGD(lr, momentum=0.9, weight_decay=0.1)",
        "chain(sgd(lr, momentum=0.9), add_decayed_weights(-0.1 lr))",
        of(made(O.SGD, lr=0.05, momentum=0.9, weight_decay=0.1),
           optax.chain(optax.sgd(0.05, momentum=0.9),
                       optax.add_decayed_weights(-0.1 * 0.05))),
        "PyTorch adds the decay to the gradient, before the momentum.",
        "chain(add_decayed_weights(0.1), sgd(...))",
        of(made(O.SGD, lr=0.05, momentum=0.9, weight_decay=0.1),
           optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.05, momentum=0.9))),
    ),
    "Adam": Row(
        "Adam(lr)", "adam(lr)", of(made(O.Adam, lr=0.01), optax.adam(0.01)),
        "The same: betas[0], betas[1], eps are b1, b2, eps. In float32 optax works out "
        "1 - b2**t in float32, PyTorch in Python's float64: 2e-5 of the first step.",
    ),
    "Adam, weight decay": Row(
        "Adam(lr, weight_decay=0.1)", "adamw(lr, weight_decay=0.1)",
        of(made(O.Adam, lr=0.01, weight_decay=0.1),
           optax.adamw(0.01, weight_decay=0.1)),
        "PyTorch's Adam adds it to the gradient, which Adam then divides away.",
        "chain(add_decayed_weights(0.1), adam(lr))",
        of(made(O.Adam, lr=0.01, weight_decay=0.1),
           optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.01))),
    ),
    "AdamW": Row(
        "AdamW(lr)", "adamw(lr)", of(made(O.AdamW, lr=0.01), optax.adamw(0.01)),
        "The weight decay is 0.01 in PyTorch and 0.0001 in optax, if not given.",
        "weight_decay=0.01 in optax",
        of(made(O.AdamW, lr=0.01), optax.adamw(0.01, weight_decay=0.01)),
    ),
    "AMSGrad": Row(
        "Adam(lr, amsgrad=True)", "amsgrad(lr)",
        of(made(O.Adam, lr=0.01, amsgrad=True), optax.amsgrad(0.01)),
        "PyTorch keeps the largest second moment as it is and corrects its bias after; "
        "optax corrects first, so that the large corrections of the first steps are "
        "kept. No setting maps the one to the other.",
    ),
    "RMSprop": Row(
        "RMSprop(lr)", "rmsprop(lr)", of(made(O.RMSprop, lr=0.01), optax.rmsprop(0.01)),
        "alpha is 0.99 and decay 0.9; epsilon stands outside the root in PyTorch.",
        "decay=0.99, eps_in_sqrt=False in optax",
        of(made(O.RMSprop, lr=0.01),
           optax.rmsprop(0.01, decay=0.99, eps_in_sqrt=False)),
    ),
    "RMSprop, centred": Row(
        "RMSprop(lr, centered=True, momentum=0.9)",
        "rmsprop(lr, centered=True, momentum=0.9)",
        of(made(O.RMSprop, lr=0.001, centered=True, momentum=0.9),
           optax.rmsprop(0.001, centered=True, momentum=0.9)),
        "As RMSprop.", "decay=0.99, eps_in_sqrt=False in optax",
        of(made(O.RMSprop, lr=0.001, centered=True, momentum=0.9),
           optax.rmsprop(0.001, decay=0.99, eps_in_sqrt=False, centered=True,
                         momentum=0.9)),
    ),
    "Adagrad": Row(
        "Adagrad(lr)", "adagrad(lr)", of(made(O.Adagrad, lr=0.05), optax.adagrad(0.05)),
        "optax starts from a sum of 0.1, PyTorch from 0, and epsilon is outside the "
        "root in PyTorch and inside in optax: only with none are they the same.",
        "initial_accumulator_value=0.1, eps=0 in PyTorch; eps=0 in optax",
        of(made(O.Adagrad, lr=0.05, initial_accumulator_value=0.1, eps=0.0),
           optax.adagrad(0.05, eps=0.0)),
    ),
    "Adadelta": Row(
        "Adadelta(lr)", "adadelta(lr)",
        of(made(O.Adadelta, lr=1.0), optax.adadelta(1.0)),
        "The same, rho=0.9 and eps=1e-6.",
    ),
    "Adamax": Row(
        "Adamax(lr)", "adamax(lr)", of(made(O.Adamax, lr=0.01), optax.adamax(0.01)),
        "The same.",
    ),
    "NAdam": Row(
        "NAdam(lr)", "nadam(lr)", of(made(O.NAdam, lr=0.01), optax.nadam(0.01)),
        "PyTorch has Dozat's schedule of the momentum, optax a constant one: other "
        "numbers from the first step on, and no setting for it.",
    ),
    "RAdam": Row(
        "RAdam(lr)", "radam(lr)", of(made(O.RAdam, lr=0.01), optax.radam(0.01)),
        "epsilon is added before the bias correction in PyTorch, after it in optax.",
        "eps=0 on both sides",
        of(made(O.RAdam, lr=0.01, eps=0.0), optax.radam(0.01, eps=0.0)),
    ),
    "Rprop": Row(
        "Rprop(lr)", "rprop(lr)", of(made(O.Rprop, lr=0.01), optax.rprop(0.01)),
        "optax takes the step of the call before, so that the first moves nothing: a "
        "defect (defects/rprop_one_step_late.py). etas are eta_minus and eta_plus, "
        "step_sizes the limits.",
    ),
    "Adafactor": Row(
        "Adafactor(lr)", "adafactor(lr)",
        of(made(O.Adafactor, lr=0.01), optax.adafactor(0.01)),
        "Another algorithm in its details: PyTorch factors every matrix, optax those "
        "from 128 rows and columns on, and steps are scaled by other rules.",
    ),
    "Muon": Row(
        "Muon(lr, weight_decay=0)", "contrib.muon(lr)",
        of_matrices(made(O.Muon, lr=0.01, weight_decay=0.0), optax.contrib.muon(0.01)),
        "PyTorch orthogonalises in bfloat16 whatever it is given, optax in the "
        "gradient's dtype; the momentum is averaged with another weight too.",
    ),
    "clipped": Row(
        "clip_grad_norm_(0.1)", "clip_by_global_norm(0.1)",
        of(made(ClippedSGD, lr=0.1),
           optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1))),
        "PyTorch divides by norm + 1e-6, optax by the norm: 1e-5 of a norm of 0.1.",
    ),
}  # fmt: skip
PAIRS = pairs_of(ROWS)
