"""Layers and losses: `torch.nn` against `flax.nnx` and optax, as they come.

    python -m benchmarks.audit layers [ROW ...]

Each pair gets the same weights and inputs, a mean square for a loss where it is no
loss itself, and three steps of plain gradient descent if it has weights. PyTorch's
images and sequences are put channels first inside the PyTorch side.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from torch import Tensor, nn

from benchmarks.audit.rows import Row, pairs_of
from parity_kit import Pair


F = nn.functional


class ChannelsLast(nn.Module):
    """A module of PyTorch for arrays whose channels come last, as in flax."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Channels last, first for the module, and last again."""
        return self.inner(x.movedim(-1, 1).contiguous()).movedim(1, -1)


class FirstOf(nn.Module):
    """The first of a module's results."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Tensor:
        """Of an attention given one array, which is query, key and value."""
        if isinstance(self.inner, nn.MultiheadAttention):
            x, *mask = inputs
            masks = {"attn_mask": mask[0]} if mask else {}
            return self.inner(x, x, x, need_weights=False, **masks)[0]
        return self.inner(*inputs)[0]


class Masked(nnx.Module):
    """Flax's attention with a mask [query, key], negated or not."""

    def __init__(self, inverted: bool) -> None:
        # With dropout it computes in the dtype of its inputs, see the row "attention".
        self.inner = nnx.MultiHeadAttention(
            2, 6, decode=False, dropout_rate=0.1, deterministic=True, rngs=nnx.Rngs(0)
        )
        self.inverted = inverted

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Self-attention."""
        return self.inner(x, mask=~mask if self.inverted else mask)


def torch_square(output: Tensor, *inputs: Tensor) -> Tensor:
    """Mean square against a fixed cosine, which no symmetry cancels."""
    target = torch.cos(torch.arange(output.numel(), dtype=output.dtype))
    return (output.reshape(-1) - target).square().mean()


def jax_square(output: jax.Array, *inputs: jax.Array) -> jax.Array:
    """The same."""
    target = jnp.cos(jnp.arange(output.size, dtype=output.dtype))
    return jnp.square(output.reshape(-1) - target).mean()


def torch_itself(output: Tensor, *inputs: Tensor) -> Tensor:
    """A loss is its own loss; one that isn't reduced is added up."""
    return output.sum()


def jax_itself(output: jax.Array, *inputs: jax.Array) -> jax.Array:
    """The same."""
    return output.sum()


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Plain gradient descent."""
    return torch.optim.SGD([p for p in parameters if p.requires_grad], lr=0.1)


OPTAX_SGD = optax.sgd(0.1)


def normal(*shapes: tuple[int, ...], scale: float = 1.0) -> Callable[[int], tuple]:
    """Inputs of normal numbers."""

    def inputs(seed: int) -> tuple:
        rng = np.random.default_rng(seed)
        return tuple(scale * rng.standard_normal(shape) for shape in shapes)

    return inputs


def of_modules(
    theirs: nn.Module, ours: nnx.Module, shape: tuple[int, ...], weights: Any = "infer"
) -> Pair:
    """Two layers with weights."""
    trained = any(True for _ in theirs.parameters())
    return Pair(
        torch=theirs,
        jax=ours,
        inputs=normal(shape),
        weights=weights if trained or any(True for _ in theirs.buffers()) else None,
        loss=(torch_square, jax_square),
        optimizer=(sgd, OPTAX_SGD) if trained else None,
        steps=3,
    )


def of_functions(
    theirs: Callable, ours: Callable, inputs: Callable[[int], tuple], loss: bool = False
) -> Pair:
    """Two functions of arrays; `loss` if the result is a loss."""
    chosen = (torch_itself, jax_itself) if loss else (torch_square, jax_square)
    return Pair(torch=theirs, jax=ours, inputs=inputs, loss=chosen)


def convolution(dims: int, ours: dict, theirs: dict, window: int = 3) -> Pair:
    """Convolutions of 4 channels into 6."""
    module = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims](4, 6, window, **theirs)
    flax = nnx.Conv(4, 6, (window,) * dims, rngs=nnx.Rngs(0), **ours)
    weights = {"inner.weight": ("kernel", "convolution"), "inner.bias": "bias"}
    size = {1: (9,), 2: (7, 8), 3: (5, 4, 6)}[dims]
    return of_modules(ChannelsLast(module), flax, (2, *size, 4), weights)


def transposed(ours: dict, theirs: dict, plain: bool = False) -> Pair:
    """Transposed convolutions of 4 channels into 6."""
    module = nn.ConvTranspose2d(4, 6, 3, stride=2, **theirs)
    flax = nnx.ConvTranspose(4, 6, (3, 3), strides=2, rngs=nnx.Rngs(0), **ours)
    kernel = "convolution" if plain else "transposed convolution"
    weights = {"inner.weight": ("kernel", kernel), "inner.bias": "bias"}
    return of_modules(ChannelsLast(module), flax, (2, 5, 4, 4), weights)


def norm(theirs: nn.Module, ours: nnx.Module, shape: tuple[int, ...]) -> Pair:
    """Normalisations, PyTorch's with its channels first."""
    weights = {"inner.weight": "scale", "inner.bias": "bias"}
    weights |= {"inner.running_mean": "mean", "inner.running_var": "var"}
    names = set(dict(theirs.named_parameters())) | set(dict(theirs.named_buffers()))
    chosen = {n: t for n, t in weights.items() if n.removeprefix("inner.") in names}
    return of_modules(ChannelsLast(theirs), ours, shape, chosen)


def recurrent(theirs: nn.RNNBase, cell: Any, held: bool) -> Pair:
    """Recurrent layers over [batch, time, features]; `held`: one of the two biases."""
    if held:
        zero = "bias_ih_l0" if isinstance(theirs, nn.LSTM) else "bias_hh_l0"
        getattr(theirs, zero).requires_grad_(False)
        getattr(theirs, zero).data.zero_()
    return of_modules(FirstOf(theirs), nnx.RNN(cell), (2, 5, 4))


def activation(theirs: nn.Module, ours: Callable, scale: float = 2.0) -> Pair:
    """Element by element."""
    return of_functions(theirs, ours, normal((5, 40), scale=scale))


def exact_gelu(x: jax.Array) -> jax.Array:
    """With erf."""
    return nnx.gelu(x, approximate=False)


def steep_softplus(seed: int) -> tuple:
    """Numbers on either side of 20."""
    return (np.random.default_rng(seed).uniform(15.0, 25.0, (5, 8)),)


def jax_max_pool(x: jax.Array) -> jax.Array:
    """Windows of two, as they come."""
    return nnx.max_pool(x, (2, 2))


def jax_max_pool_set(x: jax.Array) -> jax.Array:
    """Windows of two, side by side."""
    return nnx.max_pool(x, (2, 2), strides=(2, 2))


def jax_avg_pool(x: jax.Array) -> jax.Array:
    """Windows of two, as they come."""
    return nnx.avg_pool(x, (2, 2))


def jax_avg_pool_set(x: jax.Array) -> jax.Array:
    """Windows of two, side by side."""
    return nnx.avg_pool(x, (2, 2), strides=(2, 2))


def torch_half(x: Tensor) -> Tensor:
    """Half the size, bilinear."""
    images = x.movedim(-1, 1)
    return F.interpolate(images, scale_factor=0.5, mode="bilinear").movedim(1, -1)


def jax_half(x: jax.Array) -> jax.Array:
    """Half the size, bilinear."""
    n, h, w, c = x.shape
    return jax.image.resize(x, (n, h // 2, w // 2, c), "bilinear")


def jax_half_set(x: jax.Array) -> jax.Array:
    """Half the size, bilinear, from the nearest pixels alone."""
    n, h, w, c = x.shape
    return jax.image.resize(x, (n, h // 2, w // 2, c), "bilinear", antialias=False)


def torch_double(x: Tensor) -> Tensor:
    """Twice the size, bilinear."""
    images = x.movedim(-1, 1)
    return F.interpolate(images, scale_factor=2, mode="bilinear").movedim(1, -1)


def jax_double(x: jax.Array) -> jax.Array:
    """Twice the size, bilinear."""
    n, h, w, c = x.shape
    return jax.image.resize(x, (n, 2 * h, 2 * w, c), "bilinear")


def torch_rows(x: Tensor) -> Tensor:
    """A softmax of a batch of images, axis not given."""
    return nn.Softmax(dim=1)(x)


def labelled(seed: int) -> tuple:
    """Logits and classes."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((8, 5)), rng.integers(0, 5, 8)


def zero_one(seed: int) -> tuple:
    """Logits and 0 or 1."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((8, 5)), rng.integers(0, 2, (8, 5)).astype(float)


def chances(seed: int) -> tuple:
    """Logarithms of probabilities, and probabilities."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 8, 5))
    softmax = lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return np.log(softmax(x)), softmax(y)


def mean_of(function: Callable) -> Callable:
    """Its results' mean."""

    def mean(*arrays: jax.Array) -> jax.Array:
        return function(*arrays).mean()

    return mean


def smoothed(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Cross entropy with a tenth of each label spread over all classes."""
    labels = optax.smooth_labels(jax.nn.one_hot(classes, 5), 0.1)
    return optax.softmax_cross_entropy(logits, labels).mean()


def integer_cross_entropy(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Cross entropy as it comes."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, classes)


def scaled_huber(x: jax.Array, y: jax.Array) -> jax.Array:
    """Huber's loss over its threshold."""
    return (optax.huber_loss(x, y, delta=0.5) / 0.5).mean()


def half_huber(x: jax.Array, y: jax.Array) -> jax.Array:
    """Huber's loss of threshold 1/2."""
    return optax.huber_loss(x, y, delta=0.5).mean()


def masked(seed: int) -> tuple:
    """A sequence, and what is ahead of each step."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, 5, 6)), np.triu(np.ones((5, 5), bool), 1)


def attention(inverted: bool) -> Pair:
    """Causal attention, the mask given alike."""
    heads = [(f"inner.{n}.kernel", "heads:2") for n in ("query", "key", "value")]
    biases = [(f"inner.{n}.bias", "heads:2") for n in ("query", "key", "value")]
    return Pair(
        torch=FirstOf(nn.MultiheadAttention(6, 2, batch_first=True)),
        jax=Masked(inverted),
        inputs=masked,
        weights={
            "inner.in_proj_weight": heads,
            "inner.in_proj_bias": biases,
            "inner.out_proj.weight": ("inner.out.kernel", "out heads:2"),
            "inner.out_proj.bias": "inner.out.bias",
        },
        loss=(torch_square, jax_square),
        optimizer=(sgd, OPTAX_SGD),
        steps=3,
    )


def indices(seed: int) -> tuple:
    """Words."""
    return (np.random.default_rng(seed).integers(0, 10, (2, 7)),)


RNGS = nnx.Rngs(0)
EXPLICIT = [(1, 1), (1, 1)]
TWO_BIASES = (
    "PyTorch has two biases where flax has one. The map holds the spare one at zero, "
    "and outputs are equal; but PyTorch trains both, so that their sum moves twice as "
    "fast: the first step of the optimiser differs."
)
EPSILON = "1e-5 in PyTorch and 1e-6 in flax: of {}, set it on either side."
ROWS: dict[str, Row] = {
    "linear": Row(
        "Linear", "nnx.Linear",
        of_modules(nn.Linear(4, 6), nnx.Linear(4, 6, rngs=RNGS), (5, 4)),
        "The kernel is the transposed weight; nothing else to do.",
    ),
    "embedding": Row(
        "Embedding", "nnx.Embed",
        Pair(torch=nn.Embedding(10, 4), jax=nnx.Embed(10, 4, rngs=RNGS),
             inputs=indices, weights={"weight": "embedding"},
             loss=(torch_square, jax_square), optimizer=(sgd, OPTAX_SGD), steps=3),
        "The same table. An index out of range raises in PyTorch and gives NaN in JAX.",
    ),
    "convolution 1d": Row(
        "Conv1d", "nnx.Conv", convolution(1, {}, {}),
        "Flax pads with zeros so that the size stays (SAME); PyTorch doesn't pad.",
        "padding='VALID' in flax", convolution(1, {"padding": "VALID"}, {}),
    ),
    "convolution 2d": Row(
        "Conv2d", "nnx.Conv", convolution(2, {}, {}),
        "As in one dimension.", "padding='VALID' in flax",
        convolution(2, {"padding": "VALID"}, {}),
    ),
    "convolution 3d": Row(
        "Conv3d", "nnx.Conv", convolution(3, {}, {}),
        "As in one dimension.", "padding='VALID' in flax",
        convolution(3, {"padding": "VALID"}, {}),
    ),
    "convolution, stride 2": Row(
        "Conv2d(stride=2, padding=1)", "nnx.Conv(strides=2)",
        convolution(2, {"strides": 2}, {"stride": 2, "padding": 1}),
        "SAME of a stride pads less in front than behind, PyTorch alike: where the "
        "size is even all windows are a pixel off, with outputs of the same shape.",
        "padding=1 in flax",
        convolution(2, {"strides": 2, "padding": EXPLICIT},
                    {"stride": 2, "padding": 1}),
    ),
    "convolution by channel": Row(
        "Conv2d(groups=2)", "nnx.Conv(feature_group_count=2)",
        convolution(2, {"feature_group_count": 2}, {"groups": 2}),
        "Groups are in the same order; padding as above.", "padding='VALID' in flax",
        convolution(2, {"feature_group_count": 2, "padding": "VALID"}, {"groups": 2}),
    ),
    "convolution, dilated": Row(
        "Conv2d(dilation=2)", "nnx.Conv(kernel_dilation=2)",
        convolution(2, {"kernel_dilation": 2}, {"dilation": 2}),
        "Padding as above.", "padding='VALID' in flax",
        convolution(2, {"kernel_dilation": 2, "padding": "VALID"}, {"dilation": 2}),
    ),
    "transposed convolution": Row(
        "ConvTranspose2d(stride=2)", "nnx.ConvTranspose(strides=2)",
        transposed({}, {}),
        "SAME gives twice the size, PyTorch one more; the window is reversed in flax.",
        "padding='VALID' in flax, the kernel's window reversed",
        transposed({"padding": "VALID"}, {}),
    ),
    "transposed convolution, plain kernel": Row(
        "ConvTranspose2d(stride=2)", "nnx.ConvTranspose(transpose_kernel=True)",
        transposed({"transpose_kernel": True}, {}, plain=True),
        "With transpose_kernel=True the window isn't reversed, and the kernel is that "
        "of a convolution from the output to the input.", "padding='VALID' in flax",
        transposed({"transpose_kernel": True, "padding": "VALID"}, {}, plain=True),
    ),
    "transposed convolution, padded": Row(
        "ConvTranspose2d(stride=2, padding=1)", "nnx.ConvTranspose(padding=1)",
        transposed({"padding": EXPLICIT}, {"padding": 1}),
        "PyTorch's padding is what it cuts off the result; flax's is added to the "
        "input: p there is window - 1 - p here, and 1 of 3 is the same by chance.",
    ),
    "layer norm": Row(
        "LayerNorm", "nnx.LayerNorm",
        of_modules(nn.LayerNorm(6), nnx.LayerNorm(6, rngs=RNGS), (4, 6)),
        EPSILON.format("small variances above all"), "epsilon=1e-5 in flax",
        of_modules(nn.LayerNorm(6), nnx.LayerNorm(6, epsilon=1e-5, rngs=RNGS), (4, 6)),
    ),
    "RMS norm": Row(
        "RMSNorm", "nnx.RMSNorm",
        of_modules(nn.RMSNorm(6), nnx.RMSNorm(6, rngs=RNGS), (4, 6)),
        "PyTorch's epsilon is that of the dtype, 1.2e-7 in float32; flax's is 1e-6.",
        "eps=1e-6 in PyTorch",
        of_modules(nn.RMSNorm(6, eps=1e-6), nnx.RMSNorm(6, rngs=RNGS), (4, 6)),
    ),
    "group norm": Row(
        "GroupNorm", "nnx.GroupNorm",
        norm(nn.GroupNorm(2, 6), nnx.GroupNorm(6, 2, rngs=RNGS), (2, 4, 3, 6)),
        EPSILON.format("each group"), "epsilon=1e-5 in flax",
        norm(nn.GroupNorm(2, 6), nnx.GroupNorm(6, 2, epsilon=1e-5, rngs=RNGS),
             (2, 4, 3, 6)),
    ),
    "instance norm": Row(
        "InstanceNorm2d(affine=True)", "nnx.InstanceNorm",
        norm(nn.InstanceNorm2d(6, affine=True), nnx.InstanceNorm(6, rngs=RNGS),
             (2, 4, 3, 6)),
        EPSILON.format("each image") + " PyTorch has no scale and bias unless asked.",
        "epsilon=1e-5 in flax",
        norm(nn.InstanceNorm2d(6, affine=True),
             nnx.InstanceNorm(6, epsilon=1e-5, rngs=RNGS), (2, 4, 3, 6)),
    ),
    "batch norm, training": Row(
        "BatchNorm1d", "nnx.BatchNorm",
        of_modules(nn.BatchNorm1d(6), nnx.BatchNorm(6, rngs=RNGS), (8, 6),
                   {"weight": "scale", "bias": "bias", "running_mean": "mean",
                    "running_var": "var"}),
        "PyTorch's momentum 0.1 is the new value's share; flax's 0.99 is the old "
        "one's. With momentum=0.9 in flax the running means agree; the running "
        "variances never do: PyTorch's is divided by n - 1, flax's by n.",
        "momentum=0.9 in flax (the variance still differs)",
        of_modules(nn.BatchNorm1d(6), nnx.BatchNorm(6, momentum=0.9, rngs=RNGS), (8, 6),
                   {"weight": "scale", "bias": "bias", "running_mean": "mean",
                    "running_var": "var"}),
    ),
    "batch norm, evaluation": Row(
        "BatchNorm1d.eval()", "nnx.BatchNorm(use_running_average=True)",
        of_modules(nn.BatchNorm1d(6).eval(),
                   nnx.BatchNorm(6, use_running_average=True, rngs=RNGS), (8, 6),
                   {"weight": "scale", "bias": "bias", "running_mean": "mean",
                    "running_var": "var"}),
        "The same, with the statistics carried over; epsilon is 1e-5 on both sides.",
    ),
    "LSTM": Row(
        "LSTM", "nnx.RNN(nnx.LSTMCell)",
        recurrent(nn.LSTM(4, 3, batch_first=True), nnx.LSTMCell(4, 3, rngs=RNGS),
                  held=False),
        TWO_BIASES, "bias_ih_l0 zero and not trained in PyTorch",
        recurrent(nn.LSTM(4, 3, batch_first=True), nnx.LSTMCell(4, 3, rngs=RNGS),
                  held=True),
    ),
    "LSTM, optimised": Row(
        "LSTM", "nnx.RNN(nnx.OptimizedLSTMCell)",
        recurrent(nn.LSTM(4, 3, batch_first=True),
                  nnx.OptimizedLSTMCell(4, 3, rngs=RNGS), held=False),
        TWO_BIASES, "bias_ih_l0 zero and not trained in PyTorch",
        recurrent(nn.LSTM(4, 3, batch_first=True),
                  nnx.OptimizedLSTMCell(4, 3, rngs=RNGS), held=True),
    ),
    "GRU": Row(
        "GRU", "nnx.RNN(nnx.GRUCell)",
        recurrent(nn.GRU(4, 3, batch_first=True), nnx.GRUCell(4, 3, rngs=RNGS),
                  held=False),
        "nnx.GRUCell has no bias within the reset gate's product, though its page has "
        "b_hn in the formula: a PyTorch GRU with one can't be carried over. " +
        TWO_BIASES, "bias_hh_l0 zero and not trained in PyTorch",
        recurrent(nn.GRU(4, 3, batch_first=True), nnx.GRUCell(4, 3, rngs=RNGS),
                  held=True),
    ),
    "RNN": Row(
        "RNN", "nnx.RNN(nnx.SimpleCell)",
        recurrent(nn.RNN(4, 3, batch_first=True), nnx.SimpleCell(4, 3, rngs=RNGS),
                  held=False),
        TWO_BIASES, "bias_hh_l0 zero and not trained in PyTorch",
        recurrent(nn.RNN(4, 3, batch_first=True), nnx.SimpleCell(4, 3, rngs=RNGS),
                  held=True),
    ),
    "attention": Row(
        "MultiheadAttention", "nnx.MultiHeadAttention",
        of_modules(FirstOf(nn.MultiheadAttention(6, 2, batch_first=True)),
                   nnx.MultiHeadAttention(2, 6, decode=False, rngs=RNGS), (2, 5, 6)),
        "One array of PyTorch holds query, key and value; each is cut into heads. "
        "Without dropout flax takes jax.nn.dot_product_attention, whose softmax is in "
        "float32 whatever it is given (defects/attention_in_float32.py).",
        "dropout_rate=0.1 and deterministic=True in flax, which then takes its own "
        "attention",
        of_modules(FirstOf(nn.MultiheadAttention(6, 2, batch_first=True)),
                   nnx.MultiHeadAttention(2, 6, decode=False, dropout_rate=0.1,
                                          deterministic=True, rngs=RNGS), (2, 5, 6)),
    ),
    "attention, masked": Row(
        "MultiheadAttention(attn_mask)", "nnx.MultiHeadAttention(mask)",
        attention(inverted=False),
        "True means hidden in PyTorch and seen in flax. Nothing raises: a causal model "
        "looks at the future alone.", "the mask negated", attention(inverted=True),
    ),
    "PReLU": Row(
        "PReLU", "nnx.PReLU",
        of_modules(nn.PReLU(), nnx.PReLU(), (4, 6)),
        "Equal, with the slope carried over; without it, 0.25 and 0.01.",
    ),
    "GELU": Row(
        "GELU", "nnx.gelu", activation(nn.GELU(), nnx.gelu),
        "Exact in PyTorch, by tanh in JAX: up to 5e-4 apart.",
        "approximate=False in JAX", activation(nn.GELU(), exact_gelu),
    ),
    "SiLU": Row("SiLU", "nnx.silu", activation(nn.SiLU(), nnx.silu), "The same."),
    "ELU": Row("ELU", "nnx.elu", activation(nn.ELU(), nnx.elu), "The same."),
    "SELU": Row("SELU", "nnx.selu", activation(nn.SELU(), nnx.selu), "The same."),
    "leaky ReLU": Row(
        "LeakyReLU", "nnx.leaky_relu", activation(nn.LeakyReLU(), nnx.leaky_relu),
        "The same slope, 0.01.",
    ),
    "hard swish": Row(
        "Hardswish", "nnx.hard_swish", activation(nn.Hardswish(), nnx.hard_swish),
        "The same.",
    ),
    "GLU": Row(
        "GLU", "nnx.glu", activation(nn.GLU(), nnx.glu), "The same half is the gate.",
    ),
    "softplus": Row(
        "Softplus", "nnx.softplus",
        of_functions(nn.Softplus(), nnx.softplus, steep_softplus),
        "PyTorch is x itself above 20, where 2e-9 is missing: to be ignored, unless a "
        "proof asks why.", "threshold=40 in PyTorch",
        of_functions(nn.Softplus(threshold=40), nnx.softplus, steep_softplus),
    ),
    "max pool": Row(
        "MaxPool2d", "nnx.max_pool",
        of_functions(ChannelsLast(nn.MaxPool2d(2)), jax_max_pool, normal((2, 6, 8, 3))),
        "Windows are side by side in PyTorch; in flax they move by one.",
        "strides=(2, 2) in flax",
        of_functions(ChannelsLast(nn.MaxPool2d(2)), jax_max_pool_set,
                     normal((2, 6, 8, 3))),
    ),
    "average pool": Row(
        "AvgPool2d", "nnx.avg_pool",
        of_functions(ChannelsLast(nn.AvgPool2d(2)), jax_avg_pool, normal((2, 6, 8, 3))),
        "As of the maximum.", "strides=(2, 2) in flax",
        of_functions(ChannelsLast(nn.AvgPool2d(2)), jax_avg_pool_set,
                     normal((2, 6, 8, 3))),
    ),
    "resized to half": Row(
        "functional.interpolate(bilinear)", "jax.image.resize(bilinear)",
        of_functions(torch_half, jax_half, normal((2, 6, 8, 3))),
        "JAX smooths first where it makes smaller; PyTorch doesn't unless asked.",
        "antialias=False in JAX",
        of_functions(torch_half, jax_half_set, normal((2, 6, 8, 3))),
    ),
    "resized to double": Row(
        "functional.interpolate(bilinear)", "jax.image.resize(bilinear)",
        of_functions(torch_double, jax_double, normal((2, 4, 5, 3))), "The same.",
    ),
    "softmax of rows": Row(
        "Softmax(dim=1)", "nnx.softmax",
        of_functions(torch_rows, nnx.softmax, normal((2, 4, 5))),
        "JAX takes the last axis by default; PyTorch asks for one.",
    ),
    "mean square": Row(
        "MSELoss", "optax.l2_loss",
        of_functions(nn.MSELoss(), mean_of(optax.l2_loss), normal((8, 5), (8, 5)),
                     loss=True),
        "optax's is half the square: gradients are half as large.",
        "optax.squared_error",
        of_functions(nn.MSELoss(), mean_of(optax.squared_error), normal((8, 5), (8, 5)),
                     loss=True),
    ),
    "Huber": Row(
        "HuberLoss", "optax.huber_loss, mean",
        of_functions(nn.HuberLoss(), mean_of(optax.huber_loss), normal((8, 5), (8, 5)),
                     loss=True), "The same, threshold 1.",
    ),
    "smooth L1": Row(
        "SmoothL1Loss(beta=0.5)", "optax.huber_loss(delta=0.5), mean",
        of_functions(nn.SmoothL1Loss(beta=0.5), half_huber, normal((8, 5), (8, 5)),
                     loss=True),
        "Smooth L1 is Huber's loss over its threshold; equal only at 1.",
        "divided by 0.5",
        of_functions(nn.SmoothL1Loss(beta=0.5), scaled_huber, normal((8, 5), (8, 5)),
                     loss=True),
    ),
    "cross entropy": Row(
        "CrossEntropyLoss", "optax.softmax_cross_entropy_with_integer_labels",
        of_functions(nn.CrossEntropyLoss(), integer_cross_entropy, labelled, loss=True),
        "PyTorch's is the mean, optax's a number for each row.", "mean() of optax's",
        of_functions(nn.CrossEntropyLoss(), mean_of(integer_cross_entropy), labelled,
                     loss=True),
    ),
    "cross entropy, smoothed": Row(
        "CrossEntropyLoss(label_smoothing=0.1)", "optax.smooth_labels(0.1)",
        of_functions(nn.CrossEntropyLoss(label_smoothing=0.1), smoothed, labelled,
                     loss=True), "The same: the share is spread over all classes.",
    ),
    "binary cross entropy": Row(
        "BCEWithLogitsLoss", "optax.sigmoid_binary_cross_entropy, mean",
        of_functions(nn.BCEWithLogitsLoss(),
                     mean_of(optax.sigmoid_binary_cross_entropy), zero_one, loss=True),
        "The same.",
    ),
    "KL divergence": Row(
        "KLDivLoss", "optax.kl_divergence, mean",
        of_functions(nn.KLDivLoss(), mean_of(optax.kl_divergence), chances, loss=True),
        "PyTorch's default divides by the number of all entries, not of rows (it says "
        "so itself).", "reduction='batchmean' in PyTorch",
        of_functions(nn.KLDivLoss(reduction="batchmean"), mean_of(optax.kl_divergence),
                     chances, loss=True),
    ),
    "cosine similarity": Row(
        "CosineSimilarity", "optax.cosine_similarity",
        of_functions(nn.CosineSimilarity(), optax.cosine_similarity,
                     normal((8, 5), (8, 5))),
        "The same but at zero: PyTorch's epsilon is 1e-8, optax's 0 (NaN gradients).",
    ),
    "triplet margin": Row(
        "TripletMarginLoss", "optax.losses.triplet_margin_loss, mean",
        of_functions(nn.TripletMarginLoss(),
                     mean_of(optax.losses.triplet_margin_loss),
                     normal((8, 5), (8, 5), (8, 5)), loss=True),
        "PyTorch adds 1e-6 to each difference, optax to the sum of squares.",
    ),
}  # fmt: skip
PAIRS = pairs_of(ROWS)
