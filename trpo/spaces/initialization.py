"""Initial weights as NumPy arrays, drawn once for either backend."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from trpo.common.random_streams import Purpose, RandomStream
from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import CELLS, NONE, PLAIN, Architecture, Image


HIDDEN_GAIN = 2.0**0.5
POLICY_OUTPUT_GAIN = 0.01
CRITIC_OUTPUT_GAIN = 1.0
# A normal distribution cut off here has this standard deviation.
TRUNCATION, TRUNCATED_STD = 2.0, 0.87962566103423978


def orthogonal(
    generator: np.random.Generator, rows: int, columns: int, gain: float
) -> np.ndarray:
    """A random [rows, columns] matrix, rows or columns orthogonal, of norm `gain`.

    Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks": the Q factor of a Gaussian matrix, with signs fixed so
    that it is uniformly distributed.
    """
    gaussian = generator.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(gaussian)
    q *= np.sign(np.diagonal(r))
    return gain * (q if rows >= columns else q.T)


def torch_layer(
    generator: np.random.Generator, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weight [rows, columns] and bias [rows] as `torch.nn.Linear` draws them.

    Both uniform in ±1 / sqrt(columns).
    """
    bound = 1.0 / math.sqrt(columns)
    weight = generator.uniform(-bound, bound, (rows, columns))
    return weight, generator.uniform(-bound, bound, rows)


def flax_layer(
    generator: np.random.Generator, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weight [rows, columns] and bias [rows] as `flax.nnx.Linear` draws them.

    LeCun et al. 1998, "Efficient BackProp", section 4.6: variance 1 / columns; of a
    normal distribution cut off at 2 of its standard deviations. Biases are zero.
    """
    weight = generator.standard_normal((rows, columns))
    while (outside := np.abs(weight) > TRUNCATION).any():
        weight[outside] = generator.standard_normal(int(outside.sum()))
    return weight / (TRUNCATED_STD * math.sqrt(columns)), np.zeros(rows)


def mlp_weights(
    stream: RandomStream,
    layer_sizes: Sequence[int],
    output_gain: float,
    initialization: str = "orthogonal",
) -> dict[str, np.ndarray]:
    """Weights [out, in] and biases [out] of a multilayer perceptron.

    Args:
        stream: Source of randomness; layer i uses its draw i.
        layer_sizes: Widths from input to output.
        output_gain: Gain of the last orthogonal layer; hidden ones have sqrt(2), and
            zero biases.
        initialization: See `trpo.config.run.TRPOConfig`.
    """
    weights = {}
    last = len(layer_sizes) - 2
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(layer_sizes)):
        if initialization == "orthogonal":
            gain = output_gain if i == last else HIDDEN_GAIN
            weight = orthogonal(stream.at(i), fan_out, fan_in, gain)
            bias = np.zeros(fan_out)
        else:
            weight, bias = LAYERS[initialization](stream.at(i), fan_out, fan_in)
        weights[f"layers.{i}.weight"] = weight
        weights[f"layers.{i}.bias"] = bias
    return weights


def norm_weights(layer_sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Scales of 1 and shifts of 0 for the layer normalisation of each hidden layer."""
    weights = {}
    for i, size in enumerate(layer_sizes):
        weights[f"norms.{i}.weight"] = np.ones(size)
        weights[f"norms.{i}.bias"] = np.zeros(size)
    return weights


def encoder_weights(
    stream: RandomStream, images: Sequence[Image], initialization: str
) -> dict[str, np.ndarray]:
    """Kernels [filters, channels, rows, columns] and all else of images' encoders.

    Args:
        stream: Source of randomness; encoder k uses draws of index k + 1.
        images: That are encoded.
        initialization: Of a kernel as of the matrix [filters, the rest].
    """
    weights = {}
    for k, image in enumerate(images):
        shapes, channels = {}, image.channels
        for j, (filters, kernel, _) in enumerate(image.convolutions):
            shapes[f"convs.{j}"] = (filters, channels, *kernel)
            channels = filters
        shapes["output"] = (image.features, image.encoded)
        for draw, (name, (rows, *rest)) in enumerate(shapes.items()):
            generator, columns = stream.at(draw, k + 1), math.prod(rest)
            if initialization == "orthogonal":
                weight = orthogonal(generator, rows, columns, HIDDEN_GAIN)
                bias = np.zeros(rows)
            else:
                weight, bias = LAYERS[initialization](generator, rows, columns)
            weights[f"encoders.{k}.{name}.weight"] = weight.reshape(rows, *rest)
            weights[f"encoders.{k}.{name}.bias"] = bias
    return weights


LAYERS = {"torch": torch_layer, "flax": flax_layer}
# Indices of the draws of a cell's gates. Layers have 0; images' encoders have 1 and on,
# but never beside a cell.
CELL_INPUT, CELL_HIDDEN = 1, 2


def cell_weights(
    stream: RandomStream, kind: str, inputs: int, size: int, initialization: str
) -> dict[str, np.ndarray]:
    """Weights [gates * size, in] and biases of a recurrent cell, gate by gate.

    "orthogonal": of gain 1, so that a state neither fades nor grows (Saxe et al. 2014),
    and zero biases. "torch": uniform in ±1 / sqrt(size), as `torch.nn.GRUCell`. "flax":
    as `flax.nnx.GRUCell`, orthogonal to the state, a linear layer's to the input.

    Args:
        stream: Source of randomness.
        kind: Of the cell, a name in `trpo.spaces.architecture.CELLS`.
        inputs: Entries of the cell's input.
        size: Units.
        initialization: See `trpo.config.run.TRPOConfig`.
    """
    weights = {}
    gates = CELLS[kind].gates
    for part, index, columns in (
        ("input", CELL_INPUT, inputs),
        ("hidden", CELL_HIDDEN, size),
    ):
        blocks, bias = [], np.zeros(gates * size)
        for gate in range(gates):
            generator = stream.at(gate, index)
            if initialization == "torch":
                bound = 1.0 / math.sqrt(size)
                blocks.append(generator.uniform(-bound, bound, (size, columns)))
                bias[gate * size : (gate + 1) * size] = generator.uniform(
                    -bound, bound, size
                )
            elif initialization == "flax" and part == "input":
                blocks.append(flax_layer(generator, size, columns)[0])
            else:
                blocks.append(orthogonal(generator, size, columns, 1.0))
        weights[f"cell.{part}.weight"] = np.concatenate(blocks)
        weights[f"cell.{part}.bias"] = bias
    return weights


def network_weights(
    stream: RandomStream,
    layer_sizes: Sequence[int],
    output_gain: float,
    initialization: str,
    recurrent: str,
    recurrent_size: int,
) -> dict[str, np.ndarray]:
    """Weights of an actor or critic: of its cell, if it has one, and of its layers."""
    if recurrent == NONE:
        return mlp_weights(stream, layer_sizes, output_gain, initialization)
    inputs, *rest = layer_sizes
    cell = cell_weights(stream, recurrent, inputs, recurrent_size, initialization)
    layers = (recurrent_size, *rest)
    return cell | mlp_weights(stream, layers, output_gain, initialization)


def initial_weights(
    *,
    obs_dim: int,
    head: Head,
    policy_layer_sizes: Sequence[int],
    critic_layer_sizes: Sequence[int],
    initial_log_std: float,
    seed: int,
    initialization: str = "orthogonal",
    architecture: Architecture = PLAIN,
    share_encoder: bool = False,
    recurrent: str = NONE,
    recurrent_size: int = 64,
    critic: Purpose = Purpose.CRITIC_WEIGHTS,
) -> dict[str, np.ndarray]:
    """All initial weights of an agent, float64, under their canonical names."""
    stream = RandomStream(seed, Purpose.POLICY_WEIGHTS)
    sizes = (architecture.input_dim(obs_dim), *policy_layer_sizes, head.output_dim)
    memory = (recurrent, recurrent_size)
    policy = network_weights(stream, sizes, POLICY_OUTPUT_GAIN, initialization, *memory)
    policy |= encoder_weights(stream, architecture.images, initialization)
    stream = RandomStream(seed, critic)
    if share_encoder:
        obs_dim, of_critic = policy_layer_sizes[-1], architecture.after_encoder
    else:
        of_critic = architecture
    sizes = (of_critic.input_dim(obs_dim), *critic_layer_sizes, 1)
    values = network_weights(stream, sizes, CRITIC_OUTPUT_GAIN, initialization, *memory)
    values |= encoder_weights(stream, of_critic.images, initialization)
    if head.family.outputs_log_std:
        bias = policy[f"layers.{len(policy_layer_sizes)}.bias"]
        bias[head.reals : head.real_outputs] = initial_log_std
    if architecture.layer_norm:
        policy |= norm_weights(policy_layer_sizes)
        values |= norm_weights(critic_layer_sizes)
    free = {}
    if head.family.free_log_std:
        free["policy.log_std"] = np.full(head.reals, float(initial_log_std))
    return {
        **free,
        **{f"policy.{name}": array for name, array in policy.items()},
        **{f"value.{name}": array for name, array in values.items()},
    }
