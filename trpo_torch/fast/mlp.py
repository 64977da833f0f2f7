"""J and J' of a perceptron by hand, and its forward pass by the faster library.

Automatic differentiation gives the same numbers. By hand, the forward pass is done
once, nothing that a product does not need is computed, the rows are worked on in
chunks, and no graph is built.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo.spaces.architecture import Architecture
from trpo_torch.fast.products import Products, products, tanh_layer
from trpo_torch.networks import feedforward
from trpo_torch.networks.feedforward import ACTIVATIONS, Layer


# Entries of the widest layer's activations in one chunk: a few such arrays fit a CPU's
# second-level cache, and the memory of a product no longer grows with the batch.
CHUNK_ENTRIES = 2**18


class Tape(NamedTuple):
    """Activations of a forward pass, kept for the derivatives.

    Attributes:
        inputs: [n, in] of each layer.
        transposed: [in, rows] the same, in chunks of rows; None of a layer whose
            products do without.
    """

    inputs: list[Float[Tensor, "n in_"]]
    transposed: list[list[Float[Tensor, "in_ rows"]] | None]


def has_slopes(architecture: Architecture) -> bool:
    """Whether a network's derivatives are here; those of others are automatic."""
    plain = not (architecture.layer_norm or architecture.images)
    return plain and architecture.activation in _SLOPES


def forward(
    layers: Sequence[Layer], x: Float[Tensor, "n in_"], activation: str = "tanh"
) -> list[Tensor]:
    """`networks.feedforward.forward` of a network without normalisation."""
    # The library's products have no derivatives.
    if torch.is_grad_enabled():
        return feedforward.forward(layers, x, activation)
    *hidden, output = layers
    product, inputs = _products_of(layers, x).linear, [x]
    for layer in hidden:
        if activation == "tanh":
            x = tanh_layer(x, *layer)
        else:
            x = ACTIVATIONS[activation](product(x, *layer))
        inputs.append(x)
    return [*inputs, product(x, *output)]


@torch.no_grad()
def record(
    layers: Sequence[Layer], x: Float[Tensor, "n in_"], activation: str = "tanh"
) -> tuple[Float[Tensor, "n out"], Tape]:
    """The output, and what `jvp` and `vjp` need for many products."""
    *inputs, output = forward(layers, x, activation)
    product = _products_of(layers, x)
    transposed: list[list[Tensor] | None] = [None] * len(layers)
    for i, chunks in enumerate(zip(*_chunks(inputs), strict=True)):
        if product.wants_transposed(chunks[0], layers[i].weight):
            transposed[i] = [chunk.t().contiguous() for chunk in chunks]
    return output, Tape(inputs, transposed)


@torch.no_grad()
def jvp(
    layers: Sequence[Layer],
    inputs: Sequence[Tensor],
    tangents: Sequence[Layer],
    activation: str = "tanh",
) -> Float[Tensor, "n out"]:
    """J v: how the output changes along `tangents` of the layers.

    Args:
        layers: The network's.
        inputs: Of each layer, as `forward` returned them.
        tangents: Direction v.
        activation: Of the hidden layers, one that has a slope here.
    """
    times_slope, product = _SLOPES[activation], _products_of(layers, inputs[0])
    parts = []
    for chunk in _chunks(inputs):
        change = None
        for i, (x, (d_weight, d_bias)) in enumerate(zip(chunk, tangents, strict=False)):
            d_output = product.linear(x, d_weight, d_bias)
            if change is not None:
                product.add(d_output, change, layers[i].weight.t())
            last = i == len(layers) - 1
            change = d_output if last else times_slope(d_output, chunk[i + 1])
        parts.append(change)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@torch.no_grad()
def vjp(
    layers: Sequence[Layer],
    inputs: Sequence[Tensor],
    cotangent: Float[Tensor, "n out"],
    gradients: Sequence[Layer],
    activation: str = "tanh",
    transposed: Sequence[list[Tensor] | None] = (),
) -> None:
    """J'u, written over `gradients`.

    Args:
        layers: The network's.
        inputs: Of each layer, as `forward` returned them.
        cotangent: u.
        gradients: Arrays shaped like `layers`.
        activation: Of the hidden layers, one that has a slope here.
        transposed: Of a `Tape`, if there is one.
    """
    times_slope, product = _SLOPES[activation], _products_of(layers, inputs[0])
    columns = transposed or [None] * len(layers)
    # Sums over chunks, [in, out], of the layers whose inputs' transposes are at hand.
    sums: list[Tensor | None] = [None] * len(layers)
    for number, (*chunk, g) in enumerate(_chunks([*inputs[: len(layers)], cotangent])):
        for i in range(len(layers) - 1, -1, -1):
            (weight, bias), of_layer, total = gradients[i], columns[i], sums[i]
            if of_layer is None:
                put = product.add if number > 0 else product.put
                put(weight, g.t(), chunk[i])
            else:
                part = product.linear(of_layer[number], g.t())
                sums[i] = part if total is None else total.add_(part)
            if number > 0:
                bias.add_(g.sum(0))
            else:
                torch.sum(g, 0, out=bias)
            if i > 0:
                g = times_slope(product.times(g, layers[i].weight), chunk[i])
    _put_transposed(sums, gradients)


def _products_of(layers: Sequence[Layer], x: Tensor) -> Products:
    """The products for these layers and the rows of the first one's input."""
    # Asked once: for a small network, asking at each product takes a third longer.
    return products(x, max(layer.weight.numel() for layer in layers))


def _put_transposed(sums: list[Tensor | None], gradients: Sequence[Layer]) -> None:
    for total, (weight, _) in zip(sums, gradients, strict=True):
        if total is not None:
            weight.copy_(total.t())


def _times_tanh_slope(g: Tensor, y: Tensor) -> Tensor:
    """`g` times tanh's slope where it is y, 1 - y**2; over `g`."""
    return torch.ops.aten.tanh_backward.grad_input(g, y, grad_input=g)


def _times_relu_slope(g: Tensor, y: Tensor) -> Tensor:
    """`g` times relu's slope where it is y, 0 at 0; over `g`."""
    return g.mul_(y > 0)


def _times_elu_slope(g: Tensor, y: Tensor) -> Tensor:
    """`g` times elu's slope where it is y: 1 above 0, else exp(x) = y + 1; over `g`."""
    return g.mul_(y.clamp(max=0.0).add_(1.0))


_SLOPES = {
    "tanh": _times_tanh_slope,
    "relu": _times_relu_slope,
    "elu": _times_elu_slope,
}


def chunk_rows(rows: int, width: int) -> int:
    """Rows of each chunk of a batch of `rows`, for layers of at most `width` units.

    All chunks but the last have this many rows, and the last at most as many.
    """
    chunks = -(-rows * width // CHUNK_ENTRIES)
    return -(-rows // max(chunks, 1))


def _chunks(arrays: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """The arrays' rows in chunks that a cache can hold."""
    widest = max(array.shape[1] for array in arrays)
    rows = chunk_rows(len(arrays[0]), widest)
    # A small network's time is its operations': no views where there is one chunk.
    if rows == len(arrays[0]):
        return [tuple(arrays)]
    return list(zip(*(array.split(rows) for array in arrays), strict=True))
