"""The third implementation's distributions over actions, in NumPy, written out by hand.

There is one class each, and `distribution_of` gives that of a head. All take a policy's
outputs [N, out] and, where there is one, its clamped log_std [1, act_dim]. `noise`
simulates rounding, as in `reference/networks.py`.
"""

import functools
from typing import Any

import numpy as np

from parity_tests.reference.distribution import (
    Comparison,
    Likelihood,
    Reference,
    exp_remainder,
)
from parity_tests.reference.gaussians import Gaussian, Squashed, StateGaussian
from parity_tests.reference.networks import Forward, Noise, exact
from trpo.spaces.action_heads import (
    BERNOULLI,
    CATEGORICAL,
    GAUSSIAN,
    GAUSSIAN_STATE_STD,
    MIXED,
    MIXED_STATE_STD,
    SQUASHED_GAUSSIAN,
    Head,
)


class Mixture:
    """Real numbers and choices, independent: everything adds.

    Args:
        reals: Distribution of the real entries, by the first outputs.
        choices: Distribution of the choices, by the other outputs.
        count: Number of real entries of an action, the first ones.
        outputs: Number of outputs of `reals`.
    """

    def __init__(self, reals: Gaussian, choices: "Choices", count: int, outputs: int):
        self.reals, self.choices = reals, choices
        self.count, self.outputs = count, outputs

    def masked(self, mask):
        """The mixture with the mask on its choices."""
        choices = self.choices.masked(mask)
        return Mixture(self.reals, choices, self.count, self.outputs)

    def _of(self, at: Forward) -> tuple[Forward, Forward]:
        first, last = np.split(at.output, [self.outputs], axis=1)
        return Forward(first, at.log_std, ()), Forward(last, None, ())

    def fields(self, at):
        """Fields of both parts, by name."""
        reals, choices = self._of(at)
        return {**self.reals.fields(reals), **self.choices.fields(choices)}

    def sample(self, at, draws):
        """Reals and choices, each sampled from its own columns of the noise."""
        (reals, choices), (z, u) = self._of(at), np.split(draws, [self.count], 1)
        parts = [self.reals.sample(reals, z), self.choices.sample(choices, u)]
        return np.concatenate(parts, 1)

    def likelihood(self, at, actions, noise=exact):
        """Likelihood of both parts; the residual is a pair."""
        (reals, choices), (x, k) = self._of(at), np.split(actions, [self.count], 1)
        one = self.reals.likelihood(reals, x, noise)
        two = self.choices.likelihood(choices, k, noise)
        total = noise(one.log_prob + two.log_prob)
        return Likelihood(total, one.terms + two.terms, (one.residual, two.residual))

    def pull(self, at, residual, weight, noise):
        """Gradients of both parts, each in its own outputs."""
        reals, choices = self._of(at)
        first, d_log_std = self.reals.pull(reals, residual[0], weight, noise)
        last, _ = self.choices.pull(choices, residual[1], weight, noise)
        return np.concatenate([first, last], 1), d_log_std

    def metric(self, at, d_output, d_log_std, noise=exact):
        """The Fisher matrix is block-diagonal: each part times its own tangent."""
        (reals, choices), (u, v) = self._of(at), np.split(d_output, [self.outputs], 1)
        first, d_log_std = self.reals.metric(reals, u, d_log_std, noise)
        last, _ = self.choices.metric(choices, v, None, noise)
        return np.concatenate([first, last], 1), d_log_std

    def compare(self, old, new, residual, actions, noise=exact):
        """Sums of both parts' KL, log-ratio and terms."""
        x, k = np.split(actions, [self.count], axis=1)
        pairs = zip(self._of(old), self._of(new), residual, (x, k), strict=True)
        one, two = (
            kind.compare(*pair, noise)
            for kind, pair in zip((self.reals, self.choices), pairs, strict=True)
        )
        return Comparison(*(noise(a + b) for a, b in zip(one, two, strict=True)))

    def entropy(self, at, noise=exact):
        """Sum of both parts' entropies."""
        reals, choices = self._of(at)
        total = self.reals.entropy(reals, noise) + self.choices.entropy(choices, noise)
        return noise(total)

    def entropy_pull(self, at, noise):
        """Gradients of both parts, each in its own outputs."""
        reals, choices = self._of(at)
        first, d_log_std = self.reals.entropy_pull(reals, noise)
        last, _ = self.choices.entropy_pull(choices, noise)
        return np.concatenate([first, last], 1), d_log_std

    def deterministic(self, at, noise=exact):
        """The mean, and the log-probability there of the most likely choices."""
        reals, choices = self._of(at)
        mean = self.reals.deterministic(reals, noise)["mean"]
        peak = self.reals.likelihood(reals, mean, noise).log_prob
        best = self.choices.deterministic(choices, noise)["log_prob"]
        return {"mean": mean, "log_prob": noise(peak + best)}


# The log-probability of an option that is left out: exp of it is exactly 0.
ABSENT = -1e4


class Choices:
    """Independent choices among options, each a softmax of its own outputs.

    Args:
        sizes: Options of each choice.
        binary: Each choice is a switch, whose only output is the logit of "on"; the
            other one is 0.
        mask: [N, options] 0 where an option is left out; None where none is.
    """

    def __init__(
        self, sizes: tuple[int, ...], binary: bool, mask: np.ndarray | None = None
    ) -> None:
        self.sizes, self.binary, self.mask = sizes, binary, mask

    def masked(self, mask: np.ndarray) -> "Choices":
        """The choices with a mask [N, options]."""
        return Choices(self.sizes, self.binary, mask)

    def _present(self) -> list:
        """1 for each option [N, options] that a choice has, 0 for one left out."""
        if self.mask is None:
            return [np.ones(1)] * len(self.sizes)
        return np.split(self.mask, np.cumsum(self.sizes)[:-1], axis=1)

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
        parts = []
        for logits, present in zip(self._split(output), self._present(), strict=True):
            shift = noise(logits - logits.max(1, keepdims=True))
            # Options that are left out add nothing to the sum.
            total = noise((present * noise(np.exp(shift))).sum(1, keepdims=True))
            log_p = noise(shift - noise(np.log(total)))
            parts.append(np.where(present > 0, log_p, ABSENT))
        return parts

    def fields(self, at):
        """The logits, all choices in turn; 0 for options that are left out."""
        if self.mask is None:
            return {"logits": at.output}
        if self.binary:
            return {"logits": at.output * self.mask[:, ::2] * self.mask[:, 1::2]}
        return {"logits": at.output * self.mask}

    def sample(self, at, draws):
        """Invert the cumulative distribution, in which a switch's "on" comes first."""
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

    def entropy_pull(self, at, noise):
        """-p (log p + entropy) of each option's logit."""
        moved = []
        for log_p in self._log_p(at.output, noise):
            p = noise(np.exp(log_p))
            mean = noise((p * log_p).sum(1, keepdims=True))
            moved.append(noise(-p * (log_p - mean)) / len(p))
        return self._join(moved), None

    def deterministic(self, at, noise=exact):
        """The most likely action's log-probability, which a tie leaves continuous."""
        parts = self._log_p(at.output, noise)
        best = [log_p.max(1, keepdims=True) for log_p in parts]
        return {"log_prob": noise(np.sum(best, axis=0))}


def _indicator(actions: np.ndarray, options: np.ndarray) -> np.ndarray:
    return (actions[:, None] == np.arange(options.shape[1])).astype(np.float64)


def _mixture(head: Head, reals: Gaussian) -> Mixture:
    choices = Choices(head.action_sizes, binary=False)
    return Mixture(reals, choices, head.reals, head.real_outputs)


TABLE = {
    GAUSSIAN: lambda head: Gaussian(),
    GAUSSIAN_STATE_STD: lambda head: StateGaussian(),
    SQUASHED_GAUSSIAN: lambda head: Squashed(),
    CATEGORICAL: lambda head: Choices(head.action_sizes, binary=False),
    BERNOULLI: lambda head: Choices((2,) * head.act_dim, binary=True),
    MIXED: lambda head: _mixture(head, Gaussian()),
    MIXED_STATE_STD: lambda head: _mixture(head, StateGaussian()),
}


def distribution_of_problem(problem: Any) -> Reference:
    """The distribution of a problem's samples, with their mask if they have one."""
    distribution, mask = (
        distribution_of(problem.case.head),
        problem.batch.get("action_mask"),
    )
    return distribution if mask is None else distribution.masked(mask)


@functools.lru_cache
def distribution_of(head: Head) -> Reference:
    """The third implementation of a head's distribution."""
    return TABLE[head.distribution](head)
