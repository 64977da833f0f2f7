"""Inputs and weights of the pairs, drawn by seed with NumPy alone."""

from collections.abc import Callable

import numpy as np


Inputs = Callable[[int], tuple[np.ndarray, ...]]
Weights = Callable[[int], dict[str, np.ndarray]]


def normal(*shapes: tuple[int, ...]) -> Inputs:
    """Inputs of these shapes, each element standard normal."""

    def inputs(seed: int) -> tuple[np.ndarray, ...]:
        random = np.random.default_rng(seed)
        return tuple(random.standard_normal(shape) for shape in shapes)

    return inputs


def normal_and_classes(shape: tuple[int, ...], classes: int) -> Inputs:
    """A standard normal input, and one class (a whole number) for each of its rows."""

    def inputs(seed: int) -> tuple[np.ndarray, ...]:
        random = np.random.default_rng(seed)
        return random.standard_normal(shape), random.integers(0, classes, shape[0])

    return inputs


def weights(**shapes: tuple[int, ...]) -> Weights:
    """Weights by name: normal, divided by the root of the last axis's length."""

    def draw(seed: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed + 1000)
        return {
            name: random.standard_normal(shape) / np.sqrt(shape[-1])
            for name, shape in shapes.items()
        }

    return draw
