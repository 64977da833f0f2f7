"""The Gaussian's closed forms against 60 digits and torch.distributions."""

import mpmath
import numpy as np
import torch

from parity_tests.common.tolerances import assert_parity
from parity_tests.oracles.base import to_backend, to_numpy
from trpo.spaces.action_heads import GAUSSIAN
from trpo_jax import distributions as jax_distributions
from trpo_jax.networks import feedforward as jax_networks
from trpo_torch import distributions as torch_distributions
from trpo_torch.networks import feedforward as torch_networks


DISTRIBUTIONS = {"torch": torch_distributions, "jax": jax_distributions}
NETWORKS = {"torch": torch_networks, "jax": jax_networks}
GAUSSIANS = {name: module.BY_NAME[GAUSSIAN] for name, module in DISTRIBUTIONS.items()}


def extreme_gaussians(dtype: str) -> list[tuple[np.ndarray, ...]]:
    """(old mean, old log_std, new mean, new log_std, action): each [1, 2]."""
    rows = []
    for log_std in (-20.0, -3.0, 0.0, 2.0):
        for change in (0.0, 1e-7, 1e-3, 0.3, 2.0):
            for d in (0.0, 1e-8, -1e-4, 0.2, -0.26, 1.5):
                mean = np.array([[0.5, -1.25]])
                old = np.full((1, 2), log_std)
                new_mean = mean + change * np.exp(log_std) * np.array([[1.0, -0.5]])
                action = mean + np.exp(log_std) * np.array([[0.7, -2.0]])
                rows.append((mean, old, new_mean, old + d, action))
    return [tuple(a.astype(dtype) for a in row) for row in rows]


def check_extremes(framework: str) -> None:
    """KL, log-ratio and log-probability against 60-digit arithmetic."""
    gaussian = GAUSSIANS[framework]
    for dtype in ("float64", "float32"):
        rows = extreme_gaussians(dtype)
        stacked = [np.concatenate(column) for column in zip(*rows, strict=True)]
        columns = [to_backend(framework, array) for array in stacked]
        old = gaussian(columns[0], columns[1])
        new = gaussian(columns[2], columns[3])
        got = {
            "kl": to_numpy(old.kl(new)),
            "log_prob": to_numpy(old.log_prob(columns[4])),
            "log_ratio": to_numpy(old.log_ratio(new, columns[4])),
        }
        for i, row in enumerate(rows):
            for name, (want, scale) in _exactly(*row).items():
                # Away from the range where float32's square of z is subnormal.
                if dtype == "float32" and name == "kl" and 0 < want < 1e-30:
                    continue
                assert_parity(
                    f"oracle/{name}", got[name][i, 0], np.dtype(dtype).type(want), scale
                )


def _exactly(mean, log_std, new_mean, new_log_std, action) -> dict:
    """Name -> (value, sum of the absolute terms in it), to 60 digits."""
    with mpmath.workdps(60):
        kl = log_prob = log_ratio = mpmath.mpf(0)
        kl_terms = prob_terms = ratio_terms = mpmath.mpf(0)
        for j in range(mean.shape[1]):
            m, s, n, k, a = (
                mpmath.mpf(float(x[0, j]))
                for x in (mean, log_std, new_mean, new_log_std, action)
            )
            z = (n - m) * mpmath.exp(-k)
            term = (mpmath.exp(2 * (s - k)) - 1 + 2 * (k - s) + z**2) / 2
            kl, kl_terms = kl + term, kl_terms + abs(term)
            u, v = (a - m) * mpmath.exp(-s), (a - n) * mpmath.exp(-k)
            constant = mpmath.log(2 * mpmath.pi) / 2
            log_prob += -(u**2) / 2 - s - constant
            prob_terms += u**2 / 2 + abs(s) + constant
            log_ratio += (u**2 - v**2) / 2 - (k - s)
            w = abs(mpmath.expm1(s - k) * u) + abs(z)
            ratio_terms += w * (2 * abs(u) + w) / 2 + abs(k - s)
        return {
            "kl": (float(kl), float(kl_terms)),
            "log_prob": (float(log_prob), float(prob_terms)),
            "log_ratio": (float(log_ratio), float(ratio_terms)),
        }


def check_torch_distributions(framework: str) -> None:
    """Log-probability, entropy and KL against torch.distributions."""
    gaussian, rng = GAUSSIANS[framework], np.random.default_rng(3)
    mean, new_mean, actions = rng.standard_normal((3, 40, 4))
    log_std, new_log_std = 0.5 * rng.standard_normal((2, 1, 4))
    old = gaussian(to_backend(framework, mean), to_backend(framework, log_std))
    new = gaussian(to_backend(framework, new_mean), to_backend(framework, new_log_std))
    p, q = (
        torch.distributions.Independent(
            torch.distributions.Normal(torch.tensor(m), torch.tensor(s).exp()), 1
        )
        for m, s in ((mean, log_std), (new_mean, new_log_std))
    )
    pairs = {
        "log_prob": (old.log_prob(to_backend(framework, actions)),
                     p.log_prob(torch.tensor(actions))),
        "entropy": (old.entropy(), p.entropy()[:1]),
        "kl": (old.kl(new),
               torch.distributions.kl_divergence(p, q)),
    }  # fmt: skip
    for got, want in pairs.values():
        assert_parity("oracle/distribution", to_numpy(got)[:, 0], want.numpy())
