"""Transformed problems, whose answers follow exactly from the untransformed ones."""

import dataclasses
from collections.abc import Callable

import numpy as np

from parity_tests import bridges
from parity_tests.bridges.probe import Probe
from parity_tests.common.canonical import flatten, unflatten
from parity_tests.common.tolerances import assert_parity
from parity_tests.oracles.base import probe_of, to_backend, to_numpy
from parity_tests.oracles.distributions import GAUSSIANS
from parity_tests.problems import cases
from parity_tests.problems.golden import GoldenCase
from parity_tests.reference.problem import Problem


def _probe(framework: str, state: dict, batch: dict, problem: Problem) -> Probe:
    case = problem.case
    meta = {
        "obs_dim": case.obs_dim, "act_dim": case.act_dim, "dtype": "float64",
        "policy_layer_sizes": case.layers, "config": {"cg_damping": 0.1},
    }  # fmt: skip
    return Probe(framework, GoldenCase("transformed", meta, ()), state, batch)


def _same_gradients(quantity: str, probe: Probe, base: Probe, vector) -> None:
    assert_parity(quantity, probe.gradient(), base.gradient())
    assert_parity(quantity, probe.fisher(vector), base.fisher(vector))


def check_permutation(framework: str) -> None:
    """The order of samples does not matter."""
    problem, base = cases.build("trained"), probe_of(framework, "trained")
    order = np.random.default_rng(8).permutation(problem.case.batch)
    batch = {name: array[order] for name, array in problem.batch.items()}
    probe = _probe(framework, problem.state, batch, problem)
    _same_gradients("metamorphic/permutation", probe, base, problem.probe)


def check_duplication(framework: str) -> None:
    """A mean over the batch twice is a mean over the batch."""
    problem, base = cases.build("trained"), probe_of(framework, "trained")
    batch = {n: np.concatenate([a, a]) for n, a in problem.batch.items()}
    probe = _probe(framework, problem.state, batch, problem)
    _same_gradients("metamorphic/duplicate", probe, base, problem.probe)


def check_hidden_units(framework: str) -> None:
    """Hidden units in another order are the same policy; gradients move with them."""
    problem, base = cases.build("trained"), probe_of(framework, "trained")
    order = np.random.default_rng(9).permutation(problem.case.layers[0])

    def permuted(arrays: dict, prefix: str = "policy.") -> dict:
        moved = dict(arrays)
        for kind in ("weight", "bias"):
            name = f"{prefix}layers.0.{kind}"
            moved[name] = arrays[name][order]
        name = f"{prefix}layers.1.weight"
        moved[name] = arrays[name][:, order]
        return moved

    def vector_permuted(vector: np.ndarray) -> np.ndarray:
        sizes = problem.case.policy_sizes
        arrays = unflatten(vector, sizes, "policy.", log_std=sizes[-1])
        return flatten(permuted(arrays), "policy.")

    probe = _probe(framework, permuted(problem.state), problem.batch, problem)
    quantity = "metamorphic/units"
    assert_parity(quantity, probe.forward()["mean"], base.forward()["mean"])
    assert_parity(quantity, probe.gradient(), vector_permuted(base.gradient()))
    got = probe.fisher(vector_permuted(problem.probe))
    assert_parity(quantity, got, vector_permuted(base.fisher(problem.probe)))


def check_advantage_scale(framework: str) -> None:
    """Advantages times a power of two: the step is the same, bit for bit."""
    problem = cases.build("trained")
    for dtype in ("float64", "float32"):
        steps, improvements = [], []
        for factor in (1.0, 2.0**5, 2.0**-7):
            agent = bridges.make_agent(framework, problem, dtype)
            batch = {n: a.astype(dtype) for n, a in problem.batch.items()}
            batch["advantages"] = batch["advantages"] * np.dtype(dtype).type(factor)
            metrics = agent.update(batch)
            steps.append(flatten(agent.get_state(), "policy.").tobytes())
            improvements.append(metrics["policy/improvement"] / factor)
        assert steps[0] == steps[1] == steps[2]
        assert improvements[0] == improvements[1] == improvements[2]


def check_symmetry(framework: str) -> None:
    """Fisher is symmetric, and positive semidefinite, by either route."""
    probe = probe_of(framework, "trained")
    rng = np.random.default_rng(10)
    for route in ("gauss_newton", "kl_hessian"):
        for _ in range(3):
            u, v = rng.standard_normal((2, probe.theta.size))
            f_u, f_v = probe.fisher(u, route), probe.fisher(v, route)
            size = float(np.linalg.norm(u) * np.linalg.norm(f_v))
            assert_parity("metamorphic/symmetry", u @ f_v, v @ f_u, size)
            # At least the damping, which is 0.1.
            assert u @ f_u >= 0.1 * (u @ u) * (1.0 - 1e-12)


def check_kl_of_itself(framework: str) -> None:
    """KL(p || p) is 0 exactly, and so is its gradient."""
    names = ("trained", "saturated", "log_std_high", "choices_peaked", "switches")
    for name in names:
        probe = probe_of(framework, name)
        assert not probe.nearby_kl(np.zeros_like(probe.theta)).any()
        assert not probe.kl_gradient(probe.theta).any()
    rng = np.random.default_rng(11)
    for dtype in ("float32", "float64"):
        mean = to_backend(framework, rng.standard_normal((9, 3)).astype(dtype))
        log_std = to_backend(framework, np.array([[-20.0, 0.1, 2.0]], dtype))
        gaussian = GAUSSIANS[framework](mean, log_std)
        assert not to_numpy(gaussian.kl(gaussian)).any()


def check_rates(framework: str) -> None:
    """An update's own rates are those of an agent that has them configured."""
    problem = cases.build("trained")
    config = dataclasses.replace(problem.config, target_kl=2e-3, value_lr=5e-4)
    for dtype in ("float32", "float64"):
        plain, configured = (
            bridges.make_agent(framework, p, dtype)
            for p in (problem, problem._replace(config=config))
        )
        batch = bridges.cast(problem.batch, dtype)
        for _ in range(2):
            rates = {"target_kl": config.target_kl, "value_lr": config.value_lr}
            assert plain.update(batch, **rates) == configured.update(batch)
        # Rates are of one update: the next has the configuration's again.
        states = plain.get_state(), configured.get_state()
        assert all(np.array_equal(states[0][n], states[1][n]) for n in states[0])
        assert plain.update(batch) != configured.update(batch)


CHECKS: dict[str, Callable[[str], None]] = {
    "batch permuted": check_permutation,
    "batch twice": check_duplication,
    "hidden units permuted": check_hidden_units,
    "advantages times 2^k": check_advantage_scale,
    "Fisher symmetric": check_symmetry,
    "KL of itself": check_kl_of_itself,
    "rates of one update": check_rates,
}
