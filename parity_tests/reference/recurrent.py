"""The third implementation, of recurrent networks: NumPy, one environment at a time.

Each episode is cut out of its sequence and run from its own first state, so that there
is no state to set to zeros. Derivatives are complex steps (Squire and Trapp 1998,
"Using Complex Variables to Estimate Derivatives of Real Functions"): the imaginary part
of f(theta + ih v) / h, exact to rounding, and without any rule of differentiation.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from parity_tests.common.canonical import Arrays


STEP = 1e-30


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def gru(weights: Arrays, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """The next state of one environment."""
    of_x, of_h = products(weights, x, h)
    size = h.shape[0]
    reset = sigmoid(of_x[:size] + of_h[:size])
    keep = sigmoid(of_x[size : 2 * size] + of_h[size : 2 * size])
    new = np.tanh(of_x[2 * size :] + reset * of_h[2 * size :])
    return (1.0 - keep) * new + keep * h


def lstm(weights: Arrays, x: np.ndarray, state: np.ndarray) -> np.ndarray:
    """The next state, h then c, of one environment."""
    size = state.shape[0] // 2
    of_x, of_h = products(weights, x, state[:size])
    i, f, g, o = np.split(of_x + of_h, 4)
    c = sigmoid(f) * state[size:] + sigmoid(i) * np.tanh(g)
    return np.concatenate([sigmoid(o) * np.tanh(c), c])


CELLS = {"gru": gru, "lstm": lstm}


def products(
    weights: Arrays, x: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Terms of all gates from the input and from the state."""
    return (
        weights["cell.input.weight"] @ x + weights["cell.input.bias"],
        weights["cell.hidden.weight"] @ h + weights["cell.hidden.bias"],
    )


def episodes(starts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where one environment's [T] episodes begin and end."""
    borders = [0, *(t for t in range(1, len(starts)) if starts[t]), len(starts)]
    yield from itertools.pairwise(borders)


def forward(
    kind: str,
    weights: Arrays,
    obs: np.ndarray,
    starts: np.ndarray,
    memory: np.ndarray,
) -> np.ndarray:
    """Outputs [T, B, out] at `obs` [T, B, obs_dim], from `memory` [B, states] on."""
    steps, envs, _ = obs.shape
    count = sum(name.startswith("layers.") for name in weights) // 2
    outputs: list[list] = [[None] * envs for _ in range(steps)]
    for b in range(envs):
        for begin, end in episodes(starts[:, b]):
            carried = begin == 0 and not starts[0, b]
            state = memory[b] if carried else np.zeros(memory.shape[1])
            for t in range(begin, end):
                state = CELLS[kind](weights, obs[t, b], state)
                x = state[: weights["cell.hidden.weight"].shape[1]]
                for i in range(count):
                    x = weights[f"layers.{i}.weight"] @ x + weights[f"layers.{i}.bias"]
                    x = np.tanh(x) if i < count - 1 else x
                outputs[t][b] = x
    return np.array(outputs)


def log_probs(
    outputs: np.ndarray, weights: Arrays, actions: np.ndarray, mask: np.ndarray | None
) -> np.ndarray:
    """[n] of actions: of one choice with a mask, or of real numbers without one."""
    if mask is None:
        z = (actions - outputs) * np.exp(-weights["log_std"])
        return (-0.5 * z**2 - weights["log_std"] - 0.5 * np.log(2.0 * np.pi)).sum(-1)
    normalizer = np.log((mask * np.exp(outputs)).sum(-1))
    chosen = outputs[np.arange(len(actions)), actions[:, 0].astype(int)]
    return chosen - normalizer


def fisher(
    outputs: np.ndarray, jacobian: np.ndarray, weights: Arrays, mask: np.ndarray | None
) -> np.ndarray:
    """The dense mean Fisher matrix [p, p] of J [n, out, p], without damping.

    A free log_std is the first of the parameters.
    """
    n, width, size = jacobian.shape
    if mask is None:
        scaled = jacobian * np.exp(-weights["log_std"])[None, :, None]
        flat = scaled.reshape(n * width, size)
        matrix = flat.T @ flat / n
        matrix[np.arange(width), np.arange(width)] += 2.0
        return matrix
    p = mask * np.exp(outputs)
    p /= p.sum(-1, keepdims=True)
    matrix = np.zeros((size, size))
    for i in range(n):
        matrix += jacobian[i].T @ (np.diag(p[i]) - np.outer(p[i], p[i])) @ jacobian[i]
    return matrix / n


def derivatives(
    function: Callable[[Arrays], np.ndarray], weights: Arrays
) -> np.ndarray:
    """[..., p] of a function of named arrays, by their entries in turn."""
    columns = []
    for name, array in weights.items():
        for index in np.ndindex(array.shape):
            moved = array.astype(np.complex128)
            moved[index] += 1j * STEP
            columns.append(np.imag(function({**weights, name: moved})) / STEP)
    return np.stack(columns, -1)
