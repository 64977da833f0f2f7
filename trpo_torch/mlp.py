"""A tanh multilayer perceptron, its Jacobian J and J', by hand.

Automatic differentiation gives the same numbers. By hand, the forward pass is done
once, nothing that a product does not need is computed, the rows are worked on in
chunks, and no graph is built: on a CPU that halves the time of a small network.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from trpo.chunks import chunk_rows


class Layer(NamedTuple):
    """Weight [out, in] and bias [out] of a layer, or their tangents or gradients."""

    weight: Float[Tensor, "out in_"]
    bias: Float[Tensor, " out"]


def layers_of(arrays: Sequence[Tensor]) -> list[Layer]:
    """Layers from their weights and biases in turn."""
    return [Layer(*pair) for pair in zip(arrays[::2], arrays[1::2], strict=True)]


def forward(layers: Sequence[Layer], x: Float[Tensor, "n in_"]) -> list[Tensor]:
    """The input of every layer, and the output [n, out] of the last."""
    *hidden, output = layers
    inputs = [x]
    for weight, bias in hidden:
        x = torch.tanh(linear(x, weight, bias))
        inputs.append(x)
    return [*inputs, linear(x, output.weight, output.bias)]


@torch.no_grad()
def push(
    layers: Sequence[Layer], inputs: Sequence[Tensor], tangents: Sequence[Layer]
) -> Float[Tensor, "n out"]:
    """J v: how the output changes along `tangents` of the layers.

    Args:
        layers: The network's.
        inputs: Of each layer, as `forward` returned them.
        tangents: Direction v.
    """
    parts = []
    for chunk in _chunks(inputs):
        change = None
        for i, (x, (d_weight, d_bias)) in enumerate(zip(chunk, tangents, strict=False)):
            d_output = linear(x, d_weight, d_bias)
            if change is not None:
                d_output.addmm_(change, layers[i].weight.t())
            last = i == len(layers) - 1
            change = d_output if last else _times_slope(d_output, chunk[i + 1])
        parts.append(change)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@torch.no_grad()
def pull(
    layers: Sequence[Layer],
    inputs: Sequence[Tensor],
    cotangent: Float[Tensor, "n out"],
    gradients: Sequence[Layer],
) -> None:
    """J'u, written over `gradients`.

    Args:
        layers: The network's.
        inputs: Of each layer, as `forward` returned them.
        cotangent: u.
        gradients: Arrays shaped like `layers`.
    """
    first = True
    for *chunk, g in _chunks([*inputs[: len(layers)], cotangent]):
        for i in range(len(layers) - 1, -1, -1):
            weight, bias = gradients[i]
            if first:
                torch.mm(g.t(), chunk[i], out=weight)
                torch.sum(g, 0, out=bias)
            else:
                weight.addmm_(g.t(), chunk[i])
                bias.add_(g.sum(0))
            if i > 0:
                g = _times_slope(g @ layers[i].weight, chunk[i])
        first = False


def _times_slope(g: Tensor, y: Tensor) -> Tensor:
    """`g` times tanh's slope where it is y, 1 - y**2; over `g`."""
    return torch.ops.aten.tanh_backward.grad_input(g, y, grad_input=g)


def _chunks(arrays: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """The arrays' rows in chunks that a cache can hold."""
    widest = max(array.shape[1] for array in arrays)
    rows = chunk_rows(len(arrays[0]), widest)
    return list(zip(*(array.split(rows) for array in arrays), strict=True))
