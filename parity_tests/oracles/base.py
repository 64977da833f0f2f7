"""Parts of several oracles: arrays of a backend, its probes, and dense derivatives."""

import functools

import jax
import numpy as np
import torch

from parity_tests.bridges.probe import Probe
from parity_tests.common.tolerances import assert_parity
from parity_tests.problems import cases
from parity_tests.problems.golden import GoldenCase
from parity_tests.reference import networks as reference
from parity_tests.reference.distributions import distribution_of_problem
from parity_tests.reference.networks import Network
from parity_tests.reference.problem import Problem


# Step of central differences.
DIFFERENCE = 1e-5


def to_backend(framework: str, array: np.ndarray):
    """The array as the backend's own, dtype kept."""
    array = np.array(array)
    return torch.from_numpy(array) if framework == "torch" else jax.numpy.asarray(array)


def to_numpy(array) -> np.ndarray:
    """A backend's array as NumPy's."""
    return (
        array.detach().numpy() if isinstance(array, torch.Tensor) else np.array(array)
    )


@functools.lru_cache
def probe_of(framework: str, name: str, dtype: str = "float64") -> Probe:
    """A backend at a grid case's weights and samples."""
    problem = cases.build(name)
    case = problem.case
    meta = {
        "obs_dim": case.obs_dim,
        "act_dim": case.act_dim,
        "policy_layer_sizes": case.layers,
        "distribution": case.distribution,
        "action_sizes": case.action_sizes,
        "dtype": dtype,
        "config": {"cg_damping": 0.1},
        "networks": case.config,
        "images": case.images,
    }
    golden = GoldenCase(name, meta, ())
    return Probe(framework, golden, problem.state, problem.batch)


def check_dense_fisher_of(problem: Problem, probe: Probe) -> None:
    """Both Fisher routes of a case against J'MJ, J written out column by column."""
    policy = problem.policy()
    at = reference.forward(policy, problem.batch["obs"])
    flat = policy.flat()

    def outputs(theta: np.ndarray) -> np.ndarray:
        new = reference.forward(Network.from_flat(theta, policy), problem.batch["obs"])
        return np.concatenate([new.output.reshape(-1), new.log_std.reshape(-1)])

    columns = []
    for direction in np.eye(flat.size):
        columns.append(np.concatenate([d.reshape(-1) for d in reference.tangent(
            policy, at, Network.from_flat(direction, policy))]))  # fmt: skip
    jacobian = np.stack(columns, axis=1)
    step = 1e-6 * problem.probe / np.linalg.norm(problem.probe)
    slope = (outputs(flat + step) - outputs(flat - step)) / 2.0
    # The Jacobian itself, by differences: nothing here trusts a derivative by hand.
    assert np.linalg.norm(jacobian @ step - slope) < 1e-7 * np.linalg.norm(slope)
    n = len(at.output)
    weights = np.concatenate([
        np.tile(np.exp(-2.0 * at.log_std[0]), n) / n, np.full(at.log_std.size, 2.0)
    ])  # fmt: skip
    dense = jacobian.T @ (weights[:, None] * jacobian) + 0.1 * np.eye(flat.size)
    for route in ("gauss_newton", "kl_hessian"):
        for vector in (problem.probe, np.ones(flat.size), np.eye(flat.size)[0]):
            got = probe.fisher(vector, route)
            assert_parity("oracle/fisher", got, dense @ vector)


def check_surrogate_gradient_of(
    problem: Problem, probe: Probe, size: float = 1.0
) -> None:
    """The surrogate's derivative along `size` times the probe, against differences."""
    policy, batch = problem.policy(), problem.batch
    direction = size * problem.probe

    def surrogate(theta: np.ndarray) -> float:
        new = reference.forward(Network.from_flat(theta, policy), batch["obs"])
        log_prob = (
            distribution_of_problem(problem).likelihood(new, batch["actions"]).log_prob
        )
        return float(
            (np.exp(log_prob - batch["log_probs"]) * batch["advantages"]).mean()
        )

    flat = policy.flat()
    rise = surrogate(flat + DIFFERENCE * direction)
    rise -= surrogate(flat - DIFFERENCE * direction)
    got = probe.gradient() @ direction
    assert_parity("oracle/gradient", np.float64(got), rise / (2.0 * DIFFERENCE))
