"""Nodes and weights of a mean under the standard normal distribution."""

import math

import numpy as np


def normal_quadrature(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Hermite nodes and weights, [size] each: E[f(z)] is near weights @ f(nodes).

    Exact for polynomials of degree below 2 * size (Abramowitz and Stegun 1964, 25.4.46,
    there for the weight exp(-x²)).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(size)
    return nodes, weights / math.sqrt(2.0 * math.pi)
