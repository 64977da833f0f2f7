"""Interface of the third implementation's distributions, and its arguments."""

from typing import NamedTuple, Protocol

import numpy as np

from parity_tests.common.canonical import Arrays
from parity_tests.reference.networks import Forward, Noise, exact


class Likelihood(NamedTuple):
    """Quantities of the actions taken.

    Attributes:
        log_prob: [N, 1] log-probability.
        terms: [N] sum of the absolute terms in it, which may cancel.
        residual: deviation of the action, from which the gradient is computed.
    """

    log_prob: np.ndarray
    terms: np.ndarray
    residual: np.ndarray


class Comparison(NamedTuple):
    """Comparison of two policies: KL(old || new), log-ratio, its terms; [N, 1]."""

    kl: np.ndarray
    log_ratio: np.ndarray
    terms: np.ndarray


class Reference(Protocol):
    """Interface of the third implementation's distributions."""

    def masked(self, mask: np.ndarray) -> "Reference":
        """The distribution of rows that have a mask [N, options]."""
        ...

    def fields(self, at: Forward) -> Arrays:
        """The distribution's parameters by name."""
        ...

    def sample(self, at: Forward, draws: np.ndarray) -> np.ndarray:
        """Actions [N, act_dim] from random numbers of `Head.draw_noise`."""
        ...

    def likelihood(
        self, at: Forward, actions: np.ndarray, noise: Noise = exact
    ) -> Likelihood:
        """Log-probability of actions [N, act_dim]."""
        ...

    def pull(
        self, at: Forward, residual: np.ndarray, weight: np.ndarray, noise: Noise
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Gradient of sum(weight * log_prob) in outputs and log_std."""
        ...

    def metric(self, at: Forward, d_output, d_log_std, noise: Noise = exact) -> tuple:
        """Mean Fisher matrix over rows, in outputs and log_std, times a tangent."""
        ...

    def compare(
        self, old: Forward, new: Forward, residual, actions, noise: Noise = exact
    ) -> Comparison:
        """KL and log-ratio, with the old policy's residual of the actions."""
        ...

    def entropy(self, at: Forward, noise: Noise = exact) -> np.ndarray:
        """Entropy [N, 1], or [1, 1] where it is the same for all."""
        ...

    def entropy_pull(self, at: Forward, noise: Noise) -> tuple:
        """Gradient of the mean entropy in outputs and log_std."""
        ...

    def deterministic(self, at: Forward, noise: Noise = exact) -> Arrays:
        """Continuous parts of the most likely action, by name."""
        ...


def exp_remainder(t: np.ndarray) -> np.ndarray:
    """exp(t) - 1 - t by its power series, whole where it would cancel."""
    term = 0.5 * t * t
    total = term.copy()
    for k in range(3, 30):
        term = term * t / k
        total = total + term
    return np.where(abs(t) < 1.0, total, np.expm1(t) - t)
