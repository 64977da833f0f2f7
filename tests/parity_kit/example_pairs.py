"""Pairs for the tests, each with the verdict and the first divergence that it has."""

import functools
import sys

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from torch import nn

from parity_kit import Pair, probe


sys.stdout.write("written at import, which is no answer to a request\n")


def rows(seed):
    return (np.random.default_rng(seed).standard_normal((7, 5)),)


def tokens(seed):
    return (np.random.default_rng(seed).integers(0, 9, (4, 6)),)


def scalar(seed):
    return (np.float64(np.random.default_rng(seed).standard_normal()),)


def torch_tanh(x):
    return torch.tanh(x).sum(-1)


def jax_tanh(x):
    return jnp.tanh(x).sum(-1)


@jax.jit
def jax_slightly_more(x):
    return jnp.tanh(x * (1 + 1e-6)).sum(-1)


def jax_column(x):
    return jnp.tanh(x).sum(-1, keepdims=True)


def torch_many(x):
    return {"b": (x, None, [x.sum(), 3.0]), "a": x > 0, "k": x.argmax(-1)}


def jax_many(x):
    return {"a": x > 0, "b": [x, None, (x.sum(), 3.0)], "k": jnp.argmax(x, -1)}


def jax_many_off(x):
    return {"a": x > 0, "b": [x, None, (x.sum(), 3.0)], "k": jnp.argmin(x, -1)}


def jax_many_list(x):
    return [x > 0, jnp.argmax(x, -1)]


def torch_nothing(x):
    return None


def torch_mutates(x):
    x.mul_(2.0)
    return x.sum(-1)


def jax_doubled(x):
    return (2.0 * x).sum(-1)


def torch_cancels(x):
    return (x + 1e9) - 1e9


def torch_upcast(x):
    return torch.tensor(0.1, dtype=torch.float32) * x.float().to(torch.float32).exp()


def jax_upcast(x):
    return jnp.float32(0.1) * jnp.exp(x.astype("float32").astype(jnp.float32))


def torch_rounded(x):
    """In float32, and only there, it computes in bfloat16."""
    return torch.exp(x if x.element_size() == 8 else x.bfloat16().to(x.dtype))


def no_rows(seed):
    return (np.zeros((0, 5)),)


class JaxDrops(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return jnp.tanh(self.drop(x)).sum(-1)


def torch_log(x):
    return torch.log(x)


def jax_log(x):
    return jnp.log(x)


def torch_random(x):
    return x + torch.rand_like(x)


def torch_power(exponent):
    def power(x):
        return x**exponent

    return power


def jax_power(x, exponent):
    return x**exponent


def torch_mean(y, *inputs):
    return (y**2).mean()


def jax_mean(y, *inputs):
    return (y**2).mean()


def jax_sum(y, *inputs):
    return (y**2).sum()


def jax_detached(y, *inputs):
    return (jax.lax.stop_gradient(y) * y).mean()


def torch_vector(y, *inputs):
    return y**2


def torch_linear(w, x):
    return x @ w["w"] + w["b"]


def jax_linear(w, x):
    return probe("linear", x @ w["w"]) + w["b"]


def torch_probed(w, x):
    return probe("linear", x @ w["w"]) + w["b"]


def jax_probed_wrong(w, x):
    h = jax.vmap(lambda row: probe("linear", row @ (1.01 * w["w"])))(x)
    return h / 1.01 + w["b"]


def jax_probed_in_jit(w, x):
    return jax.jit(jax.vmap(lambda row: probe("linear", row @ w["w"])))(x) + w["b"]


def weights(seed):
    rng = np.random.default_rng(seed)
    return {"w": rng.standard_normal((5, 3)), "b": rng.standard_normal(3)}


def torch_adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-2)


def torch_momentum(parameters):
    return torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, nesterov=True)


class Scaled:
    """An object with a call, found again as a part of its pair."""

    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return self.by * x


class Clipped(torch.optim.SGD):
    """As such wrappers are written: gradients have to be there before a step."""

    def step(self, closure=None):
        for group in self.param_groups:
            torch.nn.utils.clip_grad_value_(group["params"], 0.01)
        return super().step(closure)


def torch_clipped(parameters):
    return Clipped(parameters, lr=1e-1)


def torch_lbfgs(parameters):
    return torch.optim.LBFGS(parameters, lr=1e-1, max_iter=1)


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 8)
        self.first = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.norm = nn.LayerNorm(8)
        self.register_buffer("mask", torch.ones(6))
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        h = self.table(x) * self.mask[:, None]
        return self.last(probe("hidden", self.norm(self.first(h))))


class JaxNet(nnx.Module):
    def __init__(self, rngs, epsilon=1e-5, slope=0.0, offset=0.0):
        self.slope, self.offset = slope, offset
        self.table = nnx.Embed(9, 8, rngs=rngs)
        self.first = nnx.List([nnx.Linear(8, 8, rngs=rngs)])
        self.norm = nnx.LayerNorm(8, epsilon=epsilon, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        h = jax.nn.leaky_relu(self.first[0](self.table(x)), self.slope)
        return self.last(probe("hidden", self.norm(h)) + self.offset)


NAMES = {
    "table.weight": "table.embedding",
    "first.0.weight": ("first.0.kernel", "transposed"),
    "first.0.bias": "first.0.bias",
    "norm.weight": "norm.scale",
    "norm.bias": "norm.bias",
    "last.weight": ("last.kernel", "transposed"),
    "last.bias": "last.bias",
}


class TorchNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5, momentum=0.1)

    def forward(self, x):
        return self.norm(x)


class JaxNormed(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(5, momentum=0.9, epsilon=1e-5, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


NORMED = {
    "norm.weight": "norm.scale", "norm.bias": "norm.bias",
    "norm.running_mean": "norm.mean", "norm.running_var": "norm.var",
}  # fmt: skip


def jax_evaluating():
    module = JaxNormed(nnx.Rngs(0))
    module.eval()
    return module


class Linen(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, x):
        return flax.linen.Dense(3)(jax.nn.relu(flax.linen.Dense(8)(x)))


LINEN = Linen()
SEQUENTIAL = {
    "0.weight": ("params/Dense_1/kernel", "transposed"), "0.bias": "Dense_1.bias",
    "2.weight": ("Dense_0.kernel", "transposed"), "2.bias": "Dense_0.bias",
}  # fmt: skip
LOSS = (torch_mean, jax_mean)
ADAM = (torch_adam, optax.adam(1e-2))
LINEAR = functools.partial(Pair, torch=torch_probed, inputs=rows, weights=weights)
NET = functools.partial(Pair, torch=TorchNet, inputs=tokens, weights=NAMES, loss=LOSS)

# name -> the pair, its verdict, its first divergence.
PAIRS = {
    "equal": (Pair(torch_tanh, jax_tanh, rows), "passed", None),
    "by name": (
        Pair("tests.parity_kit.example_pairs:torch_tanh", jax_tanh, rows),
        "passed",
        None,
    ),
    "a millionth": (Pair(torch_tanh, jax_slightly_more, rows), "failed", "outputs"),
    "a column": (Pair(torch_tanh, jax_column, rows), "failed", "outputs"),
    "many outputs": (Pair(torch_many, jax_many, rows), "passed", None),
    "another choice": (Pair(torch_many, jax_many_off, rows), "failed", "outputs"),
    "another structure": (Pair(torch_many, jax_many_list, rows), "failed", "outputs"),
    "nothing": (Pair(torch_nothing, torch_nothing, rows), "undecided", None),
    "objects": (Pair(Scaled(2.0), Scaled(2.0), rows), "passed", None),
    "other objects": (Pair(Scaled(2.0), Scaled(3.0), rows), "failed", "outputs"),
    "in place": (Pair(torch_mutates, jax_doubled, rows), "passed", None),
    "NaN in both": (Pair(torch_log, jax_log, rows), "passed", None),
    "a scalar": (Pair(torch.sin, jnp.sin, scalar, loss=LOSS), "passed", None),
    "cancels": (Pair(torch_cancels, torch_cancels, rows), "undecided", None),
    "no rows": (Pair(torch_tanh, jax_tanh, no_rows), "undecided", None),
    "random by key": (Pair(torch_tanh, JaxDrops, rows), "undecided", None),
    "random": (Pair(torch_random, jax_tanh, rows), "undecided", None),
    "found in the pair": (
        Pair(torch_power(3), functools.partial(jax_power, exponent=3), rows),
        "passed",
        None,
    ),
    "by its inputs": (Pair(torch_tanh, jax_tanh, rows, loss=LOSS), "passed", None),
    "another loss": (
        Pair(torch_tanh, jax_tanh, rows, loss=(torch_mean, jax_sum)),
        "failed",
        "loss",
    ),
    "gradient stopped": (
        Pair(torch_tanh, jax_tanh, rows, loss=(torch_mean, jax_detached)),
        "failed",
        "gradient",
    ),
    "weights": (
        LINEAR(
            jax=jax_linear, loss=LOSS, optimizer=ADAM, products=("jacobian", "hessian")
        ),
        "passed",
        None,
    ),
    "another epsilon": (
        LINEAR(
            jax=jax_linear,
            loss=LOSS,
            optimizer=(torch_adam, optax.adam(1e-2, eps=1e-7)),
            products=("jacobian", "hessian"),
        ),
        "failed",
        "optimizer",
    ),
    "momentum": (
        LINEAR(
            jax=jax_linear,
            loss=LOSS,
            optimizer=(torch_momentum, optax.sgd(1e-2, momentum=0.9, nesterov=True)),
        ),
        "passed",
        None,
    ),
    "clipped": (
        LINEAR(
            jax=jax_linear,
            loss=LOSS,
            optimizer=(torch_clipped, optax.chain(optax.clip(0.01), optax.sgd(1e-1))),
        ),
        "passed",
        None,
    ),
    "closure": (
        LINEAR(jax=jax_linear, loss=LOSS, optimizer=(torch_lbfgs, optax.sgd(1e-1))),
        "failed",
        "optimizer",
    ),
    "a probe": (LINEAR(jax=jax_probed_wrong), "failed", "linear"),
    "a probe in jit": (LINEAR(jax=jax_probed_in_jit), "passed", None),
    "network": (NET(jax=JaxNet, optimizer=ADAM, steps=3), "passed", None),
    "network's epsilon": (
        NET(jax=JaxNet(nnx.Rngs(0), epsilon=1e-6)),
        "failed",
        "defaults",
    ),
    "network's slope": (NET(jax=JaxNet(nnx.Rngs(0), slope=0.01)), "failed", "hidden"),
    "network's last": (NET(jax=JaxNet(nnx.Rngs(0), offset=0.1)), "failed", "outputs"),
    "by float32's name": (Pair(torch_upcast, jax_upcast, rows), "passed", None),
    "rounded": (Pair(torch_rounded, jnp.exp, rows), "passed", None),
    "running variance": (
        Pair(TorchNormed, JaxNormed, rows, weights=NORMED),
        "failed",
        "state",
    ),
    "evaluating": (
        Pair(TorchNormed().eval(), jax_evaluating(), rows, weights=NORMED),
        "passed",
        None,
    ),
    "linen": (
        Pair(
            nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)),
            (LINEN, LINEN.init(jax.random.key(0), jnp.ones((1, 5)))),
            rows,
            weights=SEQUENTIAL,
            loss=LOSS,
        ),
        "passed",
        None,
    ),
    "proposed": (
        Pair(
            nn.Linear(5, 3), nnx.Linear(5, 3, rngs=nnx.Rngs(0)), rows, weights="infer"
        ),
        "passed",
        None,
    ),
}
# Where the command and the children find them.
ALL = {name: pair for name, (pair, _, _) in PAIRS.items()}


def torch_raises(x):
    return x.no_such_method()


def no_tuple(seed):
    return np.zeros(3)


WRONG = {
    "not a scalar": (
        Pair(torch_tanh, jax_tanh, rows, loss=(torch_vector, jax_mean)),
        "scalar",
    ),
    "nothing to train": (
        Pair(torch_tanh, jax_tanh, rows, loss=LOSS, optimizer=ADAM),
        "no weights",
    ),
    "raises": (Pair(torch_raises, jax_tanh, rows), "example_pairs.py, line"),
    "no tuple": (Pair(torch_tanh, jax_tanh, no_tuple), "(x,)"),
    "no weights": (Pair(nn.Linear(5, 3), JaxNormed, rows), "infer"),
    "a name missing": (
        Pair(TorchNet, JaxNet, tokens, weights={**NAMES, "last.bias": "last.offset"}),
        "last.offset",
    ),
    "an unknown layout": (
        Pair(
            TorchNet,
            JaxNet,
            tokens,
            weights={**NAMES, "last.weight": ("last.kernel", "upside down")},
        ),
        "transposed",
    ),
    "no such module": (Pair("no_such_module:f", jax_tanh, rows), "no such module"),
    "no such name": (
        Pair("tests.parity_kit.example_pairs:nowhere", jax_tanh, rows),
        "no such name",
    ),
    "arrays for a module": (
        Pair(nn.Linear(5, 3), jax_tanh, rows, weights=weights),
        "map",
    ),
    "a lambda": (Pair(lambda x: x, jax_tanh, rows), "def"),
}
BAD = {name: pair for name, (pair, _) in WRONG.items()}
