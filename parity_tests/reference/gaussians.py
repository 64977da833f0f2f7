"""The third implementation's Gaussians, in NumPy; see `reference/distributions.py`."""

import math

import numpy as np

from parity_tests.reference.distribution import Comparison, Likelihood, exp_remainder
from parity_tests.reference.networks import (
    LOG_STD_MAX,
    LOG_STD_MIN,
    Forward,
    Noise,
    exact,
    sum_rows,
)
from trpo.common.gauss_hermite import normal_quadrature


class Gaussian:
    """Diagonal Gaussian with a free log_std."""

    def masked(self, mask):
        """Real numbers have no options, and the grid no such case."""
        raise AssertionError("Expected choices under the mask, got real actions.")

    def fields(self, at):
        """Mean and clamped log_std."""
        return {"mean": at.output, "log_std": at.log_std}

    def sample(self, at, draws):
        """Mean plus noise."""
        return at.output + np.exp(at.log_std) * draws

    def likelihood(self, at, actions, noise=exact):
        """The residual is z, in units of the standard deviation."""
        # Rounded once for all rows, so that their errors do not average out.
        inverse_std = noise(np.exp(-at.log_std))
        constant = noise(np.float64(0.5 * math.log(2.0 * math.pi)))
        z = noise((actions - at.output) * inverse_std)
        terms = noise(-0.5 * z * z - constant) - at.log_std
        log_prob = noise(terms.sum(-1, keepdims=True))
        return Likelihood(log_prob, (0.5 * z * z + abs(at.log_std) + 1.0).sum(-1), z)

    def pull(self, at, residual, weight, noise):
        """Log-density changes by z / std with the mean, by z^2 - 1 with log_std."""
        z = residual
        d_log_std = noise(sum_rows(weight * (z * z - 1.0), noise)[None])
        return noise(weight * z / np.exp(at.log_std)), d_log_std

    def metric(self, at, d_output, d_log_std, noise=exact):
        """diag(1 / std^2, 2); the noise of the steps around it is enough."""
        n = len(at.output)
        return d_output * np.exp(-2.0 * at.log_std) / n, 2.0 * d_log_std

    def compare(self, old, new, residual, actions, noise=exact):
        """KL is (exp(-2d) - 1 + 2d + z^2) / 2, with d and z the parameters' changes."""
        d = noise(new.log_std - old.log_std)
        z = noise((new.output - old.output) / np.exp(new.log_std))
        kl = (0.5 * (exp_remainder(-2.0 * d) + z * z)).sum(-1, keepdims=True)
        shift = np.expm1(-d) * residual - z
        ratio = (-shift * (residual + 0.5 * shift) - d).sum(-1, keepdims=True)
        terms = abs(residual * z) + abs(d) * (residual * residual + 1.0)
        return Comparison(noise(kl), noise(ratio), terms.sum(-1, keepdims=True))

    def entropy(self, at, noise=exact):
        """The sum of log_std and a constant."""
        constant = 0.5 * math.log(2.0 * math.pi * math.e)
        return noise((at.log_std + constant).sum(-1, keepdims=True))

    def entropy_pull(self, at, noise):
        """1 for each log_std."""
        return np.zeros_like(at.output), np.ones_like(at.log_std)

    def deterministic(self, at, noise=exact):
        """The mean is the action itself."""
        return {"mean": at.output}


class StateGaussian(Gaussian):
    """Diagonal Gaussian whose log_std is the second half of the network's outputs."""

    def _of(self, at: Forward) -> tuple[Forward, np.ndarray]:
        """The Gaussian with a log_std for each row, and where that is not clamped."""
        mean, raw = np.split(at.output, 2, axis=1)
        inside = (raw >= LOG_STD_MIN) & (raw <= LOG_STD_MAX)
        return Forward(mean, np.clip(raw, LOG_STD_MIN, LOG_STD_MAX), ()), inside

    def fields(self, at):
        """Mean and clamped log_std, no longer exact in float32."""
        gaussian, _ = self._of(at)
        return {"mean": gaussian.output, "state_log_std": gaussian.log_std}

    def sample(self, at, draws):
        """Mean plus noise."""
        return super().sample(self._of(at)[0], draws)

    def likelihood(self, at, actions, noise=exact):
        """Likelihood as with a free log_std, row by row."""
        return super().likelihood(self._of(at)[0], actions, noise)

    def pull(self, at, residual, weight, noise):
        """Gradient as with a free log_std, row by row."""
        gaussian, inside = self._of(at)
        for_mean = noise(weight * residual / np.exp(gaussian.log_std))
        for_log_std = noise(weight * (residual * residual - 1.0))
        return np.concatenate([for_mean, for_log_std * inside], 1), None

    def metric(self, at, d_output, d_log_std, noise=exact):
        """diag(1 / std^2, 2) of each row, over the rows' number."""
        gaussian, inside = self._of(at)
        d_mean, d_raw = np.split(d_output, 2, axis=1)
        # The clamp on the way there, and on the way back.
        moved = [d_mean * np.exp(-2.0 * gaussian.log_std), 2.0 * d_raw * inside]
        return np.concatenate(moved, 1) / len(gaussian.output), None

    def compare(self, old, new, residual, actions, noise=exact):
        """KL and log-ratio as with a free log_std, row by row."""
        before, after = self._of(old)[0], self._of(new)[0]
        return super().compare(before, after, residual, actions, noise)

    def entropy(self, at, noise=exact):
        """Entropy as with a free log_std, row by row."""
        return super().entropy(self._of(at)[0], noise)

    def entropy_pull(self, at, noise):
        """1 / N for each log_std that is not clamped."""
        gaussian, inside = self._of(at)
        return np.concatenate([0.0 * gaussian.output, inside / len(inside)], 1), None

    def deterministic(self, at, noise=exact):
        """The mean is the action itself."""
        return {"mean": self._of(at)[0].output}


class Squashed(Gaussian):
    """Tanh of a Gaussian with a free log_std; all but log-density is the Gaussian's."""

    def likelihood(self, at, actions, noise=exact):
        """Less log(1 - tanh(u)^2) = -2 log(cosh(u)) of each entry."""
        base = super().likelihood(at, actions, noise)
        log_slope = noise(_log_sech_squared(actions, noise).sum(-1, keepdims=True))
        terms = base.terms + 2.0 * (abs(actions) + math.log(2.0)).sum(-1)
        return base._replace(log_prob=noise(base.log_prob - log_slope), terms=terms)

    def entropy(self, at, noise=exact):
        """The Gaussian's plus the mean of log(1 - tanh(u)^2), at the same nodes."""
        nodes, weights = normal_quadrature(32)
        total = super().entropy(at, noise)
        std = np.exp(at.log_std)
        for node, weight in zip(nodes, weights, strict=True):
            log_slope = _log_sech_squared(at.output + std * node, noise)
            total = total + weight * log_slope.sum(-1, keepdims=True)
        return noise(total)


def _log_sech_squared(u: np.ndarray, noise: Noise) -> np.ndarray:
    return noise(2.0 * (math.log(2.0) - noise(np.logaddexp(u, -u))))
