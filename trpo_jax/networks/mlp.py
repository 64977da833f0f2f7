"""A multilayer perceptron, and the Jacobian J and J' of plain ones, by hand.

Automatic differentiation gives the same numbers. By hand, the inputs of the layers are
kept in both layouts, because XLA's product of two tall matrices, which gives a weight's
gradient, is half as fast on a CPU as one of a wide and a tall matrix; and the rows are
worked on in chunks.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.chunks import chunk_rows
from trpo.spaces.architecture import LAYER_NORM_EPSILON
from trpo_jax.devices.two_devices import zeros_of


# GELU is x times the normal distribution function at x, exactly (by erf).
ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
}


class Layer(NamedTuple):
    """Weight [in, out] and bias [out] of a layer, or their tangents or gradients."""

    weight: Float[jax.Array, "in_ out"]
    bias: Float[jax.Array, " out"]


class Tape(NamedTuple):
    """Activations of a forward pass, kept for the derivatives, in chunks of rows.

    Attributes:
        inputs: [chunks, rows, in] of each layer; rows beyond the batch's are zero.
        transposed: [chunks, in, rows] the same.
    """

    inputs: list[Float[jax.Array, "chunks rows in_"]]
    transposed: list[Float[jax.Array, "chunks in_ rows"]]


def layers_of(tree: Any) -> list[Layer]:
    """Layers of a network's tree of arrays."""
    return [Layer(layer["kernel"], layer["bias"]) for layer in tree["layers"].values()]


def forward(
    layers: Sequence[Layer],
    x: Float[jax.Array, "n in_"],
    activation: str = "tanh",
    norms: Sequence[Layer] = (),
) -> list[jax.Array]:
    """The input of every layer, and the output [n, out] of the last.

    Args:
        layers: The network's.
        x: Input of the first.
        activation: Of the hidden layers.
        norms: Scale and shift of each hidden layer's normalisation, if it has one.
    """
    *hidden, output = layers
    activate = ACTIVATIONS[activation]
    inputs = [x]
    for i, (weight, bias) in enumerate(hidden):
        x = x @ weight + bias
        if norms:
            x = _layer_norm(x, *norms[i])
        x = activate(x)
        inputs.append(x)
    return [*inputs, x @ output.weight + output.bias]


def record(
    layers: Sequence[Layer], x: Float[jax.Array, "n in_"], activation: str = "tanh"
) -> tuple[Float[jax.Array, "n out"], Tape]:
    """The output, and what `push` and `pull` need."""
    size = x.shape[0]
    rows = chunk_rows(size, max(max(layer.weight.shape) for layer in layers))

    def of_chunk(chunk: jax.Array) -> tuple:
        *inputs, output = forward(layers, chunk, activation)
        return output, inputs, [array.T for array in inputs]

    output, inputs, transposed = _map(of_chunk, _split(x, rows))
    return _join(output, size), Tape(inputs, transposed)


def push(
    layers: Sequence[Layer],
    inputs: Sequence[jax.Array],
    tangents: Sequence[Layer],
    activation: str = "tanh",
) -> Float[jax.Array, "n out"]:
    """J v: how the output changes along `tangents` of the layers.

    Args:
        layers: The network's.
        inputs: Of each layer, as `forward` returned them.
        tangents: Direction v.
        activation: Of the hidden layers, one of `trpo.spaces.architecture.BY_HAND`.
    """
    slope = _SLOPES[activation]
    change = inputs[0] @ tangents[0].weight + tangents[0].bias
    for layer, x, tangent in zip(layers[1:], inputs[1:], tangents[1:], strict=True):
        change = change * slope(x)
        change = change @ layer.weight + x @ tangent.weight + tangent.bias
    return change


def pull(
    layers: Sequence[Layer],
    inputs: Sequence[jax.Array],
    cotangent: Float[jax.Array, "n out"],
    transposed: Sequence[jax.Array],
    activation: str = "tanh",
) -> list[Layer]:
    """J'u, shaped like `layers`.

    Args:
        layers: The network's.
        inputs: Of each layer, as `forward` returned them.
        cotangent: u.
        transposed: The inputs' transposes.
        activation: Of the hidden layers, one of `trpo.spaces.architecture.BY_HAND`.
    """
    slope, g, gradients = _SLOPES[activation], cotangent, []
    for i in range(len(layers) - 1, -1, -1):
        gradients.insert(0, Layer(transposed[i] @ g, g.sum(0)))
        if i > 0:
            g = (g @ layers[i].weight.T) * slope(inputs[i])
    return gradients


def push_and_pull(
    layers: Sequence[Layer],
    tape: Tape,
    tangents: Sequence[Layer],
    between: Callable[..., tuple[jax.Array, Any]],
    weights: Float[jax.Array, "n 1"],
    of_rows: Sequence[jax.Array],
    activation: str = "tanh",
) -> tuple[list[Layer], Any]:
    """J'u, where u is a function of J v, row by row: chunk after chunk.

    A chunk's inputs are read once, and are in a cache when they are needed again.

    Args:
        layers: The network's.
        tape: Of the forward pass.
        tangents: Direction v.
        between: (J v, weights, rows of each of `of_rows`) -> u, which has to be 0 where
            the weight is; and anything else to be summed.
        weights: Of each row.
        of_rows: [n, …] whatever else `between` has to know.
        activation: Of the hidden layers, one of `trpo.spaces.architecture.BY_HAND`.

    Returns:
        J'u, shaped like `layers`, and the sum of what else `between` returned.
    """
    rows = tape.inputs[0].shape[1]

    def of_chunk(chunk: tuple) -> tuple[list[Layer], Any]:
        inputs, transposed, given = chunk
        cotangent, other = between(push(layers, inputs, tangents, activation), *given)
        return pull(layers, inputs, cotangent, transposed, activation), other

    def add(total: Any, chunk: tuple) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_chunk(chunk)), None

    # Rows that fill up have weight 0; of ones, no option of theirs is forbidden.
    given = [_split(weights, rows), *(_split(array, rows, 1.0) for array in of_rows)]
    chunks = (tape.inputs, tape.transposed, given)
    only = jax.tree.map(lambda array: array[0], chunks)
    if tape.inputs[0].shape[0] == 1:
        return of_chunk(only)
    return jax.lax.scan(add, zeros_of(jax.eval_shape(of_chunk, only)), chunks)[0]


def _layer_norm(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    # Not nnx.LayerNorm's default, whose variance is a difference of two means.
    centered = x - x.mean(-1, keepdims=True)
    variance = (centered * centered).mean(-1, keepdims=True)
    return centered / jnp.sqrt(variance + LAYER_NORM_EPSILON) * scale + shift


def _tanh_slope(y: jax.Array) -> jax.Array:
    """The slope of tanh where it is y."""
    return 1.0 - y * y


def _relu_slope(y: jax.Array) -> jax.Array:
    """The slope of relu where it is y, 0 at 0."""
    return (y > 0).astype(y.dtype)


def _elu_slope(y: jax.Array) -> jax.Array:
    """The slope of elu where it is y: 1 above 0, else exp(x) = y + 1."""
    return jnp.minimum(y, 0.0) + 1.0


_SLOPES = {"tanh": _tanh_slope, "relu": _relu_slope, "elu": _elu_slope}


def _split(array: jax.Array, rows: int, filler: float = 0.0) -> jax.Array:
    """Rows in chunks, [chunks, rows, …]; the last is filled up with `filler`."""
    padding = -array.shape[0] % rows
    if padding:
        rest = ((0, 0),) * (array.ndim - 1)
        array = jnp.pad(array, ((0, padding), *rest), constant_values=filler)
    return array.reshape(-1, rows, *array.shape[1:])


def _join(chunks: jax.Array, size: int) -> jax.Array:
    """The chunks' rows, without what was filled up."""
    return chunks.reshape(-1, chunks.shape[-1])[:size]


def _map(function: Callable, chunks: Any) -> Any:
    """`function` of each chunk; of a single one without a loop."""
    if jax.tree.leaves(chunks)[0].shape[0] == 1:
        only = function(jax.tree.map(lambda array: array[0], chunks))
        return jax.tree.map(lambda array: array[None], only)
    return jax.lax.map(function, chunks)
