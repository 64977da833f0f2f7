"""The third implementation: networks in NumPy, without autodiff.

Derivatives are written out by hand, so nothing here is shared with either backend. It
is every ring's float64 reference. Each function takes `noise`, which perturbs every
layer's output: run with it, the reference tells how far rounding errors carry
(Monte-Carlo arithmetic; Parker 1997).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from parity_kit.rounding import (
    Noise as Noise,
    exact as exact,
    mean_rows as mean_rows,
    product_over_rows,
    rounding_noise as rounding_noise,
    sum_rows as sum_rows,
)
from parity_tests.common.canonical import Arrays, in_order
from parity_tests.reference import images as reference_images
from parity_tests.reference.layers import (
    Normalized,
    activate,
    normalize,
    normalize_backward,
    normalize_tangent,
    slope,
)
from trpo.spaces.architecture import PLAIN, Architecture


LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class Network(NamedTuple):
    """A network's arrays and its architecture.

    Attributes:
        arrays: by name, in canonical order: log_std [act_dim], not yet clamped, where
            there is one; weight [out, in] and bias [out] of each layer.
        architecture: of the network.
    """

    arrays: Arrays
    architecture: Architecture = PLAIN

    @classmethod
    def policy(
        cls, state: Mapping[str, np.ndarray], architecture: Architecture = PLAIN
    ) -> "Network":
        """The policy of a canonical state."""
        return cls(in_order(state, "policy."), architecture)

    @classmethod
    def critic(
        cls, state: Mapping[str, np.ndarray], architecture: Architecture = PLAIN
    ) -> "Network":
        """The critic of a canonical state."""
        return cls(in_order(state, "value."), architecture)

    @classmethod
    def from_flat(cls, vector: np.ndarray, like: "Network") -> "Network":
        """A network shaped as `like`, its arrays taken from `vector`."""
        arrays, offset = {}, 0
        for name, array in like.arrays.items():
            piece = vector[offset : offset + array.size]
            arrays[name] = piece.reshape(array.shape)
            offset += array.size
        return like._replace(arrays=arrays)

    def flat(self) -> np.ndarray:
        """All arrays as one vector in canonical order."""
        return np.concatenate([array.reshape(-1) for array in self.arrays.values()])

    @property
    def log_std(self) -> np.ndarray | None:
        """The free log_std [act_dim], not clamped; None for a network without one."""
        return self.arrays.get("log_std")

    @property
    def depth(self) -> int:
        """Layers after the encoders, the output's included."""
        return sum(name.startswith("layers.") for name in self.arrays) // 2

    def pair(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of the layer or normalisation `name`."""
        return self.arrays[f"{name}.weight"], self.arrays[f"{name}.bias"]


class Forward(NamedTuple):
    """Output [N, out], clamped log_std [1, act_dim], and inputs of the derivatives.

    Attributes:
        output: output of the last layer.
        log_std: None for a network without one.
        inputs: input of each layer.
        sums: argument of each hidden layer's activation.
        norms: result of each hidden layer's normalisation, if there is one.
        tapes: intermediate results of the images' encoders.
    """

    output: np.ndarray
    log_std: np.ndarray | None
    inputs: tuple[np.ndarray, ...]
    sums: tuple[np.ndarray, ...] = ()
    norms: tuple[Normalized, ...] = ()
    tapes: tuple[reference_images.Tape, ...] = ()


def forward(network: Network, obs: np.ndarray, noise: Noise = exact) -> Forward:
    """Output of the network at `obs` [N, obs_dim]."""
    kind = network.architecture
    x, inputs, sums, norms, tapes = obs, [], [], [], []
    if kind.images:
        x, tapes = reference_images.encode(network.arrays, kind, obs, noise)
    for i in range(network.depth - 1):
        inputs.append(x)
        weight, bias = network.pair(f"layers.{i}")
        z = noise(x @ weight.T + bias)
        if kind.layer_norm:
            scale, shift = network.pair(f"norms.{i}")
            norms.append(normalize(z, noise))
            z = noise(norms[-1].value * scale + shift)
        sums.append(z)
        x = noise(activate(kind.activation, z))
    inputs.append(x)
    weight, bias = network.pair(f"layers.{network.depth - 1}")
    log_std = None
    if network.log_std is not None:
        log_std = np.clip(network.log_std, LOG_STD_MIN, LOG_STD_MAX)[None]
    output = noise(x @ weight.T + bias)
    parts = map(tuple, (inputs, sums, norms, tapes))
    return Forward(output, log_std, *parts)


def backward(
    network: Network,
    at: Forward,
    output: np.ndarray,
    log_std: np.ndarray | None = None,
    noise: Noise = exact,
) -> np.ndarray:
    """J' applied to cotangents of output [N, out] and clamped log_std [1, act_dim]."""
    kind, delta, gradients = network.architecture, output, {}
    arrays = network.arrays
    for i in range(network.depth - 1, -1, -1):
        layer = f"layers.{i}"
        weight = product_over_rows(delta, at.inputs[i], noise)
        gradients[f"{layer}.weight"] = noise(weight)
        gradients[f"{layer}.bias"] = noise(sum_rows(delta, noise))
        if i:
            steep = slope(kind.activation, at.sums[i - 1], at.inputs[i])
            delta = noise((delta @ network.pair(layer)[0]) * steep)
            if kind.layer_norm:
                norm = f"norms.{i - 1}"
                d_scale, d_shift, delta = normalize_backward(
                    at.norms[i - 1], network.pair(norm)[0], delta, noise
                )
                gradients |= {f"{norm}.weight": d_scale, f"{norm}.bias": d_shift}
    if kind.images:
        delta = noise(delta @ arrays["layers.0.weight"])
        gradients |= reference_images.backward(arrays, kind, at.tapes, delta, noise)
    if network.log_std is not None:
        gradients["log_std"] = log_std[0] * _inside(network.log_std)
    return network._replace(arrays={name: gradients[name] for name in arrays}).flat()


def tangent(
    network: Network, at: Forward, v: Network, noise: Noise = exact
) -> tuple[np.ndarray, np.ndarray | None]:
    """J applied to a change `v` of the parameters: of output and clamped log_std."""
    kind, d_x = network.architecture, np.zeros_like(at.inputs[0])
    if kind.images:
        d_x = reference_images.tangent(
            network.arrays, v.arrays, kind, at.tapes, d_x.shape[1], noise
        )
    last = network.depth - 1
    for i in range(network.depth):
        (weight, _), (d_weight, d_bias) = (n.pair(f"layers.{i}") for n in (network, v))
        d_x = d_x @ weight.T + at.inputs[i] @ d_weight.T + d_bias
        if i == last:
            break
        if kind.layer_norm:
            d_scale, d_shift = v.pair(f"norms.{i}")
            changed = normalize_tangent(at.norms[i], noise(d_x), noise)
            d_x = changed * network.pair(f"norms.{i}")[0]
            d_x = noise(d_x + at.norms[i].value * d_scale + d_shift)
        d_x = noise(d_x * slope(kind.activation, at.sums[i], at.inputs[i + 1]))
    d_log_std = None
    if network.log_std is not None:
        d_log_std = (v.log_std * _inside(network.log_std))[None]
    return noise(d_x), d_log_std


def _inside(log_std: np.ndarray) -> np.ndarray:
    return (log_std >= LOG_STD_MIN) & (log_std <= LOG_STD_MAX)


def gae(
    rollout: Arrays, values: np.ndarray, next_values: np.ndarray, config
) -> np.ndarray:
    """Advantages [T, B], by summing each step's discounted deltas to its end."""
    live = ~rollout["terminated"]
    ends = rollout["terminated"] | rollout["truncated"]
    delta = rollout["rewards"] + config.gamma * live * next_values - values
    advantages = np.zeros_like(delta)
    steps, envs = delta.shape
    for b in range(envs):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                advantages[t, b] += weight * delta[k, b]
                weight *= config.gamma * config.gae_lambda
                if ends[k, b]:
                    break
    return advantages
