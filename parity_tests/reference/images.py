"""The third implementation's encoders of images: convolutions written out.

Images are [N, channels, rows, columns], kernels [filters, channels, rows, columns].
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from parity_kit.rounding import Noise, product_over_rows, sum_rows
from parity_tests.common.canonical import Arrays
from trpo.spaces.architecture import Architecture, Image


class Tape(NamedTuple):
    """Intermediate results of one encoder that its derivatives need.

    Attributes:
        inputs: input of each convolution, and output of the last one.
        flat: [N, encoded] input of the linear layer.
        features: [N, features] its output, after relu.
    """

    inputs: tuple[np.ndarray, ...]
    flat: np.ndarray
    features: np.ndarray


def encode(
    arrays: Mapping[str, np.ndarray], kind: Architecture, obs: np.ndarray, noise: Noise
) -> tuple[np.ndarray, list[Tape]]:
    """Input of a network's first layer, and the tapes of its encoders."""
    pixels = np.zeros(obs.shape[1], dtype=bool)
    tapes = []
    for k, image in enumerate(kind.images):
        part = slice(image.start, image.start + image.height * image.width
                    * image.channels)  # fmt: skip
        pixels[part] = True
        tapes.append(_forward(arrays, f"encoders.{k}", image, obs[:, part], noise))
    parts = [obs[:, ~pixels], *(tape.features for tape in tapes)]
    return np.concatenate(parts, 1), tapes


def _forward(
    arrays: Mapping[str, np.ndarray],
    name: str,
    image: Image,
    pixels: np.ndarray,
    noise: Noise,
) -> Tape:
    height, width, channels = image.height, image.width, image.channels
    x = noise(pixels / 255.0)
    if image.channels_first:
        x = x.reshape(-1, channels, height, width)
    else:
        x = np.moveaxis(x.reshape(-1, height, width, channels), -1, 1)
    inputs = [x]
    for j, (_, _, stride) in enumerate(image.convolutions):
        kernel, bias = _pair(arrays, f"{name}.convs.{j}")
        total = bias[None, :, None, None]
        for place, patch in _patches(x, kernel, stride):
            total = total + np.einsum("fc,nchw->nfhw", kernel[place], patch)
        x = noise(np.maximum(noise(total), 0.0))
        inputs.append(x)
    flat = x.reshape(len(x), -1)
    weight, bias = _pair(arrays, f"{name}.output")
    features = noise(np.maximum(noise(flat @ weight.T + bias), 0.0))
    return Tape(tuple(inputs), flat, features)


def backward(
    arrays: Mapping[str, np.ndarray],
    kind: Architecture,
    tapes: list[Tape],
    delta: np.ndarray,
    noise: Noise,
) -> Arrays:
    """Gradients of the encoders' arrays, given the cotangent of `encode`'s result."""
    gradients, end = {}, delta.shape[1]
    for k in range(len(tapes) - 1, -1, -1):
        tape, name = tapes[k], f"encoders.{k}"
        start = end - tape.features.shape[1]
        d = noise(delta[:, start:end] * (tape.features > 0))
        end = start
        gradients[f"{name}.output.weight"] = noise(
            product_over_rows(d, tape.flat, noise)
        )
        gradients[f"{name}.output.bias"] = noise(sum_rows(d, noise))
        d = noise(d @ arrays[f"{name}.output.weight"]).reshape(tape.inputs[-1].shape)
        strides = [stride for _, _, stride in kind.images[k].convolutions]
        for j in range(len(strides) - 1, -1, -1):
            d = noise(d * (tape.inputs[j + 1] > 0))
            layer = f"{name}.convs.{j}"
            kernel, x = arrays[f"{layer}.weight"], tape.inputs[j]
            rows = _rows(d)
            gradients[f"{layer}.bias"] = noise(sum_rows(rows, noise))
            weight, before = np.zeros_like(kernel), np.zeros_like(x)
            patches = zip(
                _patches(x, kernel, strides[j]),
                _patches(before, kernel, strides[j]),
                strict=True,
            )
            for (place, patch), (_, under_kernel) in patches:
                weight[place] = product_over_rows(rows, _rows(patch), noise)
                under_kernel += np.einsum("fc,nfhw->nchw", kernel[place], d)
            gradients[f"{layer}.weight"], d = noise(weight), noise(before)
    return gradients


def tangent(
    arrays: Mapping[str, np.ndarray],
    change: Mapping[str, np.ndarray],
    kind: Architecture,
    tapes: list[Tape],
    width: int,
    noise: Noise,
) -> np.ndarray:
    """How `encode`'s result [N, width] changes with the encoders' arrays."""
    parts = []
    for k, tape in enumerate(tapes):
        name, d_x = f"encoders.{k}", np.zeros_like(tape.inputs[0])
        for j, (_, _, stride) in enumerate(kind.images[k].convolutions):
            kernel = arrays[f"{name}.convs.{j}.weight"]
            d_kernel, d_bias = _pair(change, f"{name}.convs.{j}")
            total = d_bias[None, :, None, None]
            both = zip(
                _patches(tape.inputs[j], kernel, stride),
                _patches(d_x, kernel, stride),
                strict=True,
            )
            for (place, patch), (_, d_patch) in both:
                total = total + np.einsum("fc,nchw->nfhw", d_kernel[place], patch)
                total = total + np.einsum("fc,nchw->nfhw", kernel[place], d_patch)
            d_x = noise(total * (tape.inputs[j + 1] > 0))
        d_weight, d_bias = _pair(change, f"{name}.output")
        d_flat = d_x.reshape(tape.flat.shape) @ arrays[f"{name}.output.weight"].T
        d_features = d_flat + tape.flat @ d_weight.T + d_bias
        parts.append(noise(d_features * (tape.features > 0)))
    rows = len(parts[0])
    others = np.zeros((rows, width - sum(part.shape[1] for part in parts)))
    return np.concatenate([others, *parts], 1)


def _pair(arrays: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    return arrays[f"{name}.weight"], arrays[f"{name}.bias"]


def _patches(
    x: np.ndarray, kernel: np.ndarray, stride: int
) -> Iterator[tuple[tuple, np.ndarray]]:
    """Each place of the kernel, and the pixels under it, one for each output."""
    down, across = kernel.shape[2:]
    height = (x.shape[2] - down) // stride + 1
    width = (x.shape[3] - across) // stride + 1
    for a in range(down):
        for b in range(across):
            rows = slice(a, a + stride * height, stride)
            columns = slice(b, b + stride * width, stride)
            yield (slice(None), slice(None), a, b), x[:, :, rows, columns]


def _rows(x: np.ndarray) -> np.ndarray:
    """[N, channels, …] with a row for each sample and place."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
