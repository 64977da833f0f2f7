"""The third implementation's distributions over actions, in NumPy, written out by hand.

One class each; `of` gives the one of a head, and nothing else asks which it is. All
take a policy's outputs [N, out] and, where there is one, its clamped log_std
[1, act_dim]. `noise` simulates rounding, as in `reference.py`.
"""

import functools
import math
from typing import NamedTuple, Protocol

import numpy as np

from parity_tests.canonical import Arrays
from parity_tests.reference import Forward, Noise, exact, sum_rows
from trpo.heads import BERNOULLI, CATEGORICAL, GAUSSIAN, Head


class Likelihood(NamedTuple):
    """Of the actions taken.

    Attributes:
        log_prob: [N, 1] log-probability.
        terms: [N] sum of the absolute terms in it, which may cancel.
        residual: what the action is off by, as the gradient needs it.
    """

    log_prob: np.ndarray
    terms: np.ndarray
    residual: np.ndarray


class Comparison(NamedTuple):
    """Of two policies: KL(old || new), log-ratio of the actions, its terms; [N, 1]."""

    kl: np.ndarray
    log_ratio: np.ndarray
    terms: np.ndarray


class Reference(Protocol):
    """What a distribution of the third implementation computes."""

    def fields(self, at: Forward) -> Arrays:
        """The distribution's parameters by name."""
        ...

    def sample(self, at: Forward, draws: np.ndarray) -> np.ndarray:
        """Actions [N, act_dim] from what `Head.draw_noise` drew."""
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

    def deterministic(self, at: Forward, noise: Noise = exact) -> Arrays:
        """What is continuous of the most likely action, by name."""
        ...


class Gaussian:
    """Diagonal Gaussian with a free log_std."""

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

    def deterministic(self, at, noise=exact):
        """The mean is the action itself."""
        return {"mean": at.output}


class Choices:
    """Independent choices among options, each a softmax of its own outputs.

    Args:
        sizes: Options of each choice.
        binary: Each choice is a switch, whose only output is the logit of "on"; the
            other one is 0.
    """

    def __init__(self, sizes: tuple[int, ...], binary: bool) -> None:
        self.sizes, self.binary = sizes, binary

    def _split(self, output: np.ndarray) -> list[np.ndarray]:
        """Logits [N, options] of each choice."""
        if self.binary:
            return [np.stack([0.0 * column, column], 1) for column in output.T]
        return np.split(output, np.cumsum(self.sizes)[:-1], axis=1)

    def _join(self, parts: list[np.ndarray]) -> np.ndarray:
        """Cotangents of the outputs from those of each choice's logits."""
        return np.concatenate(
            [part[:, 1:] if self.binary else part for part in parts], 1
        )

    def _log_p(self, output: np.ndarray, noise: Noise) -> list[np.ndarray]:
        found = []
        for logits in self._split(output):
            shift = noise(logits - logits.max(1, keepdims=True))
            total = noise(noise(np.exp(shift)).sum(1, keepdims=True))
            found.append(noise(shift - noise(np.log(total))))
        return found

    def fields(self, at):
        """The logits, all choices in turn."""
        return {"logits": at.output}

    def sample(self, at, draws):
        """By inversion; of a switch "on" comes first."""
        columns = []
        for j, log_p in enumerate(self._log_p(at.output, exact)):
            p = np.exp(log_p)
            if self.binary:
                columns.append(draws[:, j] < p[:, 1])
            else:
                columns.append((np.cumsum(p, 1)[:, :-1] <= draws[:, j, None]).sum(1))
        return np.stack(columns, 1).astype(np.float64)

    def likelihood(self, at, actions, noise=exact):
        """The residual is the action's indicator less the probabilities."""
        log_prob, terms, residuals = 0.0, 0.0, []
        for j, log_p in enumerate(self._log_p(at.output, noise)):
            chosen = _indicator(actions[:, j], log_p)
            log_prob = log_prob + (chosen * log_p).sum(1, keepdims=True)
            terms = terms + (chosen * abs(log_p)).sum(1) + 1.0
            residuals.append(noise(chosen - noise(np.exp(log_p))))
        return Likelihood(noise(log_prob), terms, self._join(residuals))

    def pull(self, at, residual, weight, noise):
        """Log-probability changes by the residual with the logits."""
        return noise(weight * residual), None

    def metric(self, at, d_output, d_log_std, noise=exact):
        """diag(p) - p p' for each choice."""
        moved = []
        for log_p, u in zip(
            self._log_p(at.output, exact), self._split(d_output), strict=True
        ):
            p = np.exp(log_p)
            mean = noise((p * u).sum(1, keepdims=True))
            moved.append(noise(p * noise(u - mean)) / len(p))
        return self._join(moved), None

    def compare(self, old, new, residual, actions, noise=exact):
        """KL is the change of log(sum exp), less its linear part.

        With c the logits' change less its mean over the old probabilities p, it is
        log(1 + sum p (exp(c) - 1 - c)), and the log-ratio is c less that.
        """
        kl, ratio, terms = 0.0, 0.0, 0.0
        changes = self._split(noise(new.output - old.output))
        for j, (log_p, change) in enumerate(
            zip(self._log_p(old.output, noise), changes, strict=True)
        ):
            p = noise(np.exp(log_p))
            c = noise(change - noise((p * change).sum(1, keepdims=True)))
            excess = noise((p * exp_remainder(c)).sum(1, keepdims=True))
            divergence = noise(np.log1p(excess))
            chosen = _indicator(actions[:, j], p)
            kl = kl + divergence
            ratio = ratio + (chosen * c).sum(1, keepdims=True) - divergence
            spread = chosen * abs(change) + p * abs(change)
            terms = terms + spread.sum(1, keepdims=True) + divergence
        return Comparison(noise(kl), noise(ratio), terms)

    def entropy(self, at, noise=exact):
        """Minus the mean log-probability."""
        parts = self._log_p(at.output, noise)
        terms = [noise(np.exp(log_p) * log_p).sum(1, keepdims=True) for log_p in parts]
        return noise(-np.sum(terms, axis=0))

    def deterministic(self, at, noise=exact):
        """The most likely action's log-probability, which a tie leaves continuous."""
        parts = self._log_p(at.output, noise)
        best = [log_p.max(1, keepdims=True) for log_p in parts]
        return {"log_prob": noise(np.sum(best, axis=0))}


def _indicator(actions: np.ndarray, options: np.ndarray) -> np.ndarray:
    return (actions[:, None] == np.arange(options.shape[1])).astype(np.float64)


def exp_remainder(t: np.ndarray) -> np.ndarray:
    """exp(t) - 1 - t by its power series, whole where it would cancel."""
    term = 0.5 * t * t
    total = term.copy()
    for k in range(3, 30):
        term = term * t / k
        total = total + term
    return np.where(abs(t) < 1.0, total, np.expm1(t) - t)


TABLE = {
    GAUSSIAN: lambda head: Gaussian(),
    CATEGORICAL: lambda head: Choices(head.action_sizes, binary=False),
    BERNOULLI: lambda head: Choices((2,) * head.act_dim, binary=True),
}


@functools.lru_cache
def of(head: Head) -> Reference:
    """The third implementation of a head's distribution."""
    return TABLE[head.distribution](head)
