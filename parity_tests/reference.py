"""The third implementation: networks in NumPy, without autodiff.

Derivatives are written out by hand, so nothing here is shared with either backend. It
is the float64 truth of every ring. Each function takes `noise`, which perturbs every
layer's output: run with it, the reference tells how far rounding errors carry
(Monte-Carlo arithmetic; Parker 1997).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from parity_tests.canonical import Arrays


Noise = Callable[[np.ndarray], np.ndarray]
UNIT_ROUNDOFF_32 = 2.0**-24
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


def exact(array: np.ndarray) -> np.ndarray:
    """No noise."""
    return array


def rounding_noise(seed: int, unit: float = UNIT_ROUNDOFF_32) -> Noise:
    """Noise of relative size `unit`: one simulated run in a shorter precision."""
    rng = np.random.default_rng([seed, 24])

    def noise(array: np.ndarray) -> np.ndarray:
        # Seven digits of randomness are plenty, at half the time.
        xi = rng.standard_normal(np.shape(array), dtype=np.float32)
        return array * (1.0 + unit * xi.astype(np.float64))

    return noise


# Rows that a product or sum adds up before its simulated running total is rounded.
BLOCK = 64


def sum_rows(terms: np.ndarray, noise: Noise = exact) -> np.ndarray:
    """Sum over the first axis; the running total is rounded after each block.

    What a long sum loses is mostly this: its total grows as its terms are added, and
    each addition rounds the total, not the term (Higham 2002, section 4.2).
    """
    return _accumulate((part.sum(0) for part in _blocks(terms)), noise)


def mean_rows(terms: np.ndarray, noise: Noise = exact) -> np.ndarray:
    """Mean over all entries of [N, 1] or [1, 1], accumulated as `sum_rows` does."""
    return sum_rows(terms, noise).sum() / terms.size


def _product_over_rows(left: np.ndarray, right: np.ndarray, noise: Noise) -> np.ndarray:
    """left' right, accumulated as `sum_rows` does."""
    pairs = zip(_blocks(left), _blocks(right), strict=True)
    return _accumulate((a.T @ b for a, b in pairs), noise)


def _blocks(array: np.ndarray) -> list[np.ndarray]:
    return [array[i : i + BLOCK] for i in range(0, len(array), BLOCK)]


def _accumulate(parts: Iterable[np.ndarray], noise: Noise) -> np.ndarray:
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        total = noise(total + part)
    return total


class Network(NamedTuple):
    """A multilayer perceptron's arrays.

    Attributes:
        layers: (weight [out, in], bias [out]) from input to output.
        log_std: [act_dim], not yet clamped; None where there is none.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    log_std: np.ndarray | None

    @classmethod
    def policy(cls, state: Mapping[str, np.ndarray]) -> "Network":
        """The policy of a canonical state."""
        return cls(_layers(state, "policy."), state.get("policy.log_std"))

    @classmethod
    def critic(cls, state: Mapping[str, np.ndarray]) -> "Network":
        """The critic of a canonical state."""
        return cls(_layers(state, "value."), None)

    @classmethod
    def from_flat(cls, vector: np.ndarray, like: "Network") -> "Network":
        """A network shaped as `like`, its arrays taken from `vector`."""
        offset = 0

        def take(array: np.ndarray) -> np.ndarray:
            nonlocal offset
            offset += array.size
            return vector[offset - array.size : offset].reshape(array.shape)

        log_std = None if like.log_std is None else take(like.log_std)
        return cls(tuple((take(w), take(b)) for w, b in like.layers), log_std)

    def flat(self) -> np.ndarray:
        """All arrays as one vector in canonical order."""
        pieces = [] if self.log_std is None else [self.log_std]
        for weight, bias in self.layers:
            pieces += [weight.reshape(-1), bias]
        return np.concatenate(pieces)


class Forward(NamedTuple):
    """Output [N, out], clamped log_std [1, act_dim], and each layer's input."""

    output: np.ndarray
    log_std: np.ndarray | None
    inputs: tuple[np.ndarray, ...]


def _layers(state: Mapping[str, np.ndarray], prefix: str) -> tuple:
    count = sum(name.startswith(f"{prefix}layers.") for name in state) // 2
    names = [f"{prefix}layers.{i}" for i in range(count)]
    return tuple((state[f"{name}.weight"], state[f"{name}.bias"]) for name in names)


def forward(network: Network, obs: np.ndarray, noise: Noise = exact) -> Forward:
    """Output of the network at `obs` [N, obs_dim]."""
    x, inputs = obs, []
    for weight, bias in network.layers[:-1]:
        inputs.append(x)
        x = noise(np.tanh(noise(x @ weight.T + bias)))
    inputs.append(x)
    weight, bias = network.layers[-1]
    log_std = None
    if network.log_std is not None:
        log_std = np.clip(network.log_std, LOG_STD_MIN, LOG_STD_MAX)[None]
    return Forward(noise(x @ weight.T + bias), log_std, tuple(inputs))


def backward(
    network: Network,
    at: Forward,
    output: np.ndarray,
    log_std: np.ndarray | None = None,
    noise: Noise = exact,
) -> np.ndarray:
    """J' applied to cotangents of output [N, out] and clamped log_std [1, act_dim]."""
    layers, delta = [], output
    for i in range(len(network.layers) - 1, -1, -1):
        weight = _product_over_rows(delta, at.inputs[i], noise)
        layers.append((noise(weight), noise(sum_rows(delta, noise))))
        if i:
            slope = 1.0 - at.inputs[i] ** 2
            delta = noise((delta @ network.layers[i][0]) * slope)
    if network.log_std is not None:
        log_std = log_std[0] * _inside(network.log_std)
    return Network(tuple(reversed(layers)), log_std).flat()


def tangent(
    network: Network, at: Forward, v: Network, noise: Noise = exact
) -> tuple[np.ndarray, np.ndarray | None]:
    """J applied to a change `v` of the parameters: of output and clamped log_std."""
    d_x = np.zeros_like(at.inputs[0])
    last = len(network.layers) - 1
    for i, ((weight, _), (d_weight, d_bias)) in enumerate(
        zip(network.layers, v.layers, strict=True)
    ):
        d_x = d_x @ weight.T + at.inputs[i] @ d_weight.T + d_bias
        d_x = noise(d_x if i == last else d_x * (1.0 - at.inputs[i + 1] ** 2))
    d_log_std = None
    if network.log_std is not None:
        d_log_std = (v.log_std * _inside(network.log_std))[None]
    return d_x, d_log_std


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
