"""Each finding about another library in a few lines, run in the library's environment.

ENVIRONMENT/bin/python -m benchmarks.audit.other_trpos.findings NAME
"""

# pyright: reportMissingImports=false

import sys

import torch


def sb3_contrib_kl() -> None:
    """The KL of six independent normals is averaged over them, not summed."""
    from stable_baselines3.common.distributions import (
        DiagGaussianDistribution,
        kl_divergence,
    )

    old, new = DiagGaussianDistribution(6), DiagGaussianDistribution(6)
    old.proba_distribution(torch.zeros(1, 6), torch.zeros(6))
    new.proba_distribution(torch.full((1, 6), 0.1), torch.zeros(6))
    used = kl_divergence(new, old).mean().item()
    true = 6 * 0.1**2 / 2
    print(f"KL used by the update {used:.6f}, KL of the policies {true:.6f}")


def sb3_contrib_small_gradient() -> None:
    """A small gradient: the search direction is the solver's random start."""
    from sb3_contrib.common.utils import conjugate_gradient_solver

    diagonal = torch.logspace(-1, 2, 2000)
    b = 1e-8 * torch.ones(2000)
    for _ in range(2):
        x = conjugate_gradient_solver(lambda v: diagonal * v, b, max_iter=15)
        cosine = torch.cosine_similarity(x, b / diagonal, dim=0).item()
        print(f"cosine with the true solution {cosine:+.3f}")


def omnisafe_kl() -> None:
    """As sb3-contrib's: the mean over normals that are one policy."""
    from torch.distributions import Normal, kl_divergence

    old, new = Normal(torch.zeros(1, 6), 1.0), Normal(torch.full((1, 6), 0.1), 1.0)
    used, true = kl_divergence(old, new).mean().item(), 6 * 0.1**2 / 2
    print(f"KL used by the update {used:.6f}, KL of the policies {true:.6f}")


def omnisafe_small_gradient() -> None:
    """1e-6 in conjugate gradient's denominators: a small gradient is not solved for."""
    from benchmarks.audit.other_trpos.omnisafe import without_safety_gymnasium

    without_safety_gymnasium()
    from omnisafe.utils.math import conjugate_gradients

    for length in (1.0, 1e-3, 1e-5):
        b = torch.nn.functional.normalize(torch.ones(100), dim=0) * length
        x = conjugate_gradients(lambda v: v, b)
        print(f"gradient {length:.0e}: solution {x.norm():.2e}, should be {length:.0e}")


def skrl_truncation() -> None:
    """By default an episode that is cut off takes in the next episode's advantages."""
    from skrl.agents.torch.trpo.trpo import compute_gae

    zeros, no = torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.bool)
    truncated = torch.tensor([[False], [True], [False]])
    for reward in (0.0, 100.0):
        rewards = torch.tensor([[1.0], [1.0], [reward]])
        returns, _ = compute_gae(
            rewards=rewards, terminated=no, truncated=truncated, values=zeros,
            last_values=torch.zeros(1, 1),
        )  # fmt: skip
        print(
            f"reward of the next episode {reward}: returns {returns.flatten().tolist()}"
        )


def skrl_acceptance() -> None:
    """The expected improvement is multiplied by every factor so far, not the last."""
    expected = 1.0
    for i in range(5):
        alpha = 0.5**i
        expected *= alpha  # as `TRPO.update` has it
        print(f"step {alpha}: expects {expected}, linear model {alpha}")


def skrl_kl() -> None:
    """The KL in the line search has the logarithms' ratio with its sign turned."""
    from types import SimpleNamespace

    from skrl.agents.torch.trpo.trpo import kl_divergence

    def policy(log_std: float) -> SimpleNamespace:
        outputs = {
            "mean_actions": torch.zeros(1, 1),
            "log_std": torch.tensor([[log_std]]),
        }
        return SimpleNamespace(act=lambda *_, **__: (None, outputs))

    for change in (-0.1, 0.1):
        used = kl_divergence(
            policy_1=policy(0.0), policy_2=policy(change), observations=None,
            states=None,
        )  # fmt: skip
        old = torch.distributions.Normal(0.0, 1.0)
        new = torch.distributions.Normal(0.0, torch.tensor(change).exp())
        true = torch.distributions.kl_divergence(old, new)
        print(f"log_std from 0 to {change}: KL used {used:+.4f}, true {true:+.4f}")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
