"""The discrete distributions against 60 digits, torch.distributions and enumeration."""

import itertools

import mpmath
import numpy as np
import torch

from parity_tests.common.tolerances import assert_parity
from parity_tests.oracles.base import probe_of, to_backend, to_numpy
from parity_tests.oracles.distributions import NETWORKS
from parity_tests.problems import cases
from parity_tests.reference import networks as reference
from parity_tests.reference.networks import Network
from trpo.spaces.action_heads import BERNOULLI, CATEGORICAL, Head


HEADS = (Head(2, CATEGORICAL, (3, 2)), Head(2, BERNOULLI))


def extreme_logits(head: Head, dtype: str) -> list[tuple[np.ndarray, ...]]:
    """(old outputs, new outputs, action) of a head, each one row."""
    rng, rows = np.random.default_rng(5), []
    for size, change in itertools.product(
        (0.0, 0.5, 3.0, 12.0), (0.0, 1e-7, 1e-3, 0.3, 1.2, 9.0)
    ):
        old = (size * rng.standard_normal((1, head.output_dim))).astype(dtype)
        step = change * rng.standard_normal((1, head.output_dim))
        new = old + step.astype(dtype)
        options = np.array(head.action_sizes or (2,) * head.act_dim)
        action = rng.integers(options)[None].astype(dtype)
        rows.append((old, new, action))
    return rows


def check_extreme_choices(framework: str) -> None:
    """KL, log-ratio and log-probability against 60-digit arithmetic."""
    module = NETWORKS[framework]
    for head, dtype in itertools.product(HEADS, ("float64", "float32")):
        rows = extreme_logits(head, dtype)
        columns = [
            to_backend(framework, np.concatenate(c)) for c in zip(*rows, strict=True)
        ]
        old, new = (module.from_network(head, array, None) for array in columns[:2])
        got = {
            "kl": to_numpy(old.kl(new)),
            "log_prob": to_numpy(old.log_prob(columns[2])),
            "log_ratio": to_numpy(old.log_ratio(new, columns[2])),
        }
        for i, row in enumerate(rows):
            for quantity, (want, scale) in _exactly(head, *row).items():
                assert_parity(
                    f"oracle/{quantity}", got[quantity][i, 0],
                    np.dtype(dtype).type(want), scale,
                )  # fmt: skip


def _exactly(head, old, new, action) -> dict:
    """Name -> (value, sum of the absolute terms in it), to 60 digits."""
    with mpmath.workdps(60):
        kl, terms = mpmath.mpf(0), mpmath.mpf(0)
        log_prob = log_ratio = prob_terms = mpmath.mpf(0)
        for chosen, before, after in zip(
            action[0], _options(head, old[0]), _options(head, new[0]),
            strict=True,
        ):  # fmt: skip
            p, q = _log_softmax(before), _log_softmax(after)
            for a, b in zip(p, q, strict=True):
                kl += mpmath.exp(a) * (a - b)
            moved = [b - a for a, b in zip(before, after, strict=True)]
            mean = sum(mpmath.exp(a) * c for a, c in zip(p, moved, strict=True))
            # The change less its mean: what both are made of.
            terms += abs(moved[int(chosen)]) + sum(
                mpmath.exp(a) * abs(c - mean) for a, c in zip(p, moved, strict=True)
            )
            log_prob += p[int(chosen)]
            prob_terms += abs(p[int(chosen)]) + 1
            log_ratio += q[int(chosen)] - p[int(chosen)]
        return {
            "kl": (float(kl), float(kl)),
            "log_prob": (float(log_prob), float(prob_terms)),
            "log_ratio": (float(log_ratio), float(terms)),
        }


def _options(head: Head, outputs: np.ndarray) -> list[list]:
    """Logits of each choice's options."""
    exact = [mpmath.mpf(float(number)) for number in outputs]
    if head.distribution == BERNOULLI:
        return [[mpmath.mpf(0), number] for number in exact]
    ends = np.cumsum((0, *head.action_sizes))
    return [exact[a:b] for a, b in itertools.pairwise(ends)]


def _log_softmax(logits: list) -> list:
    total = mpmath.log(sum(mpmath.exp(logit) for logit in logits))
    return [logit - total for logit in logits]


def check_torch_choices(framework: str) -> None:
    """Log-probability, entropy and KL against torch.distributions."""
    module, rng = NETWORKS[framework], np.random.default_rng(3)
    for head in HEADS:
        outputs, others = 2.0 * rng.standard_normal((2, 40, head.output_dim))
        options = np.array(head.action_sizes or (2,) * head.act_dim)
        actions = rng.integers(options, size=(40, head.act_dim)).astype(np.float64)
        old, new = (
            module.from_network(head, to_backend(framework, array), None)
            for array in (outputs, others)
        )
        p, q = (
            _torch_distributions(head, torch.tensor(array))
            for array in (outputs, others)
        )
        columns = torch.tensor(actions).unbind(1)
        divergence = torch.distributions.kl_divergence
        expected = {
            "log_prob": sum(d.log_prob(a) for d, a in zip(p, columns, strict=True)),
            "entropy": sum(d.entropy() for d in p),
            "kl": sum(divergence(a, b) for a, b in zip(p, q, strict=True)),
        }
        results = {
            "log_prob": old.log_prob(to_backend(framework, actions)),
            "entropy": old.entropy(),
            "kl": old.kl(new),
        }
        for quantity, want in expected.items():
            got = to_numpy(results[quantity])[:, 0]
            assert_parity("oracle/distribution", got, want.numpy())


def check_enumerated_fisher(framework: str) -> None:
    """Both Fisher routes against the sum over all joint actions of p * score score'."""
    for name in ("choices", "switches_peaked"):
        problem, probe = cases.build(name), probe_of(framework, name)
        policy, head = problem.policy(), problem.case.head
        at = reference.forward(policy, problem.batch["obs"])
        flat = policy.flat()
        jacobian = np.stack(
            [reference.tangent(policy, at, Network.from_flat(e, policy))[0]
             for e in np.eye(flat.size)], axis=2,
        )  # fmt: skip
        fisher = 0.1 * np.eye(flat.size)
        for outputs, slopes in zip(at.output, jacobian, strict=True):
            fisher += slopes.T @ _score_moment(head, outputs) @ slopes / len(at.output)
        for route in ("gauss_newton", "kl_hessian"):
            for vector in (problem.probe, np.ones(flat.size), np.eye(flat.size)[0]):
                got = probe.fisher(vector, route)
                assert_parity("oracle/fisher", got, fisher @ vector)


def _score_moment(head: Head, outputs: np.ndarray) -> np.ndarray:
    """E[score score'] in the outputs, by taking every joint action in turn."""
    options = head.action_sizes or (2,) * head.act_dim
    total, mass = np.zeros((head.output_dim,) * 2), 0.0
    for joint in itertools.product(*map(range, options)):
        chosen = np.array([joint], dtype=np.float64)
        logits = torch.tensor(outputs[None], requires_grad=True)
        parts = _torch_distributions(head, logits)
        log_p = sum(
            d.log_prob(torch.tensor(a)) for d, a in zip(parts, chosen.T, strict=True)
        )
        (score,) = torch.autograd.grad(log_p.sum(), logits)
        p = float(log_p.detach().exp())
        total += p * np.outer(score[0], score[0])
        mass += p
    assert abs(mass - 1.0) < 1e-12
    return total


def _torch_distributions(head: Head, logits: torch.Tensor) -> list:
    if head.distribution == BERNOULLI:
        return [torch.distributions.Bernoulli(logits=c) for c in logits.unbind(1)]
    parts = logits.split(head.action_sizes, 1)
    return [torch.distributions.Categorical(logits=part) for part in parts]


def check_missing_options(framework: str) -> None:
    """Options that only fill up a shorter choice: probability and gradient are 0."""
    module, head = NETWORKS[framework], Head(3, CATEGORICAL, (3, 1, 5))
    for dtype, size in itertools.product(("float32", "float64"), (0.0, 30.0, 1e4)):
        rng = np.random.default_rng(6)
        outputs = (size * rng.standard_normal((7, 9))).astype(dtype)
        categorical = module.from_network(head, to_backend(framework, outputs), None)
        exists = np.arange(5) < np.array(head.action_sizes)[:, None]
        log_p = to_numpy(categorical.log_probabilities())
        assert not np.exp(log_p)[:, ~exists].any()
        np.testing.assert_allclose(np.exp(log_p).sum(-1), 1.0, rtol=1e-6)
        moved = categorical.fisher_metric(
            type(categorical)(to_backend(framework, log_p * 0 + 1))
        )
        assert not to_numpy(moved.logits)[:, ~exists].any()
        for draw in (0.0, 0.5, 1.0):
            noise = np.full((7, 3), draw, dtype)
            action = to_numpy(categorical.sample(to_backend(framework, noise)))
            assert (action < head.action_sizes).all()
        assert (to_numpy(categorical.mode()) < head.action_sizes).all()


CHECKS = {
    "60 digits, choices": check_extreme_choices,
    "torch.distributions, choices": check_torch_choices,
    "enumerated Fisher": check_enumerated_fisher,
    "missing options": check_missing_options,
}
