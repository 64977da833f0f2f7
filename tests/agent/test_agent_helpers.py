"""The original agent's helpers, under its names and signatures."""

import numpy as np
import pytest

from tests.support.agents import (
    ACT_DIM,
    BACKENDS,
    agent_module,
    as_array,
    make_agent,
    make_batch,
    native,
)


pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def test_policy_objective_is_the_surrogate(backend):
    agent = make_agent(backend)
    batch = make_batch(agent)
    parts = [native(backend, batch[k]) for k in ("obs", "actions", "log_probs")]
    advantages = native(backend, batch["advantages"])
    value, ratio, log_ratio = map(as_array, agent._policy_objective(*parts, advantages))
    assert (value.shape, ratio.shape, log_ratio.shape) == ((), (40, 1), (40, 1))
    np.testing.assert_allclose(ratio, 1.0, rtol=1e-6)
    np.testing.assert_allclose(log_ratio, 0.0, atol=1e-6)
    np.testing.assert_allclose(value, batch["advantages"].mean(), atol=1e-6)
    value, ratio, _ = agent._policy_objective(*parts[:2], parts[2] - 1.0, advantages)
    np.testing.assert_allclose(as_array(ratio), np.e, rtol=1e-5)


def test_helper_kl_is_joint_and_in_the_stated_direction(backend):
    old_mean, new_mean = np.array([[0.0, 1.0]]), np.array([[0.5, -1.0]])
    old_log_std, new_log_std = np.array([[0.1, -0.3]]), np.array([[0.4, 0.2]])
    arguments = (old_mean, old_log_std, new_mean, new_log_std)
    got = agent_module(backend)._kl_old_to_new(
        *(native(backend, a.astype(np.float32)) for a in arguments)
    )
    variance_ratio = np.exp(2 * (old_log_std - new_log_std))
    distance = ((old_mean - new_mean) / np.exp(new_log_std)) ** 2
    kl = new_log_std - old_log_std + 0.5 * (variance_ratio + distance - 1.0)
    assert tuple(got.shape) == (1, 1)
    np.testing.assert_allclose(as_array(got), kl.sum(1, keepdims=True), rtol=1e-5)


def test_helper_conjugate_gradient_solves(backend):
    generator = np.random.default_rng(0)
    root = generator.standard_normal((6, 6)).astype(np.float32)
    matrix, b = root @ root.T + 3 * np.eye(6, dtype=np.float32), root[0]
    held = native(backend, matrix)
    solve = agent_module(backend)._conjugate_gradient
    x = solve(lambda v: held @ v, native(backend, b), 20)
    np.testing.assert_allclose(matrix @ as_array(x), b, atol=1e-4)
    one = as_array(solve(lambda v: held @ v, native(backend, b), 1))
    np.testing.assert_allclose(one, b * (b @ b) / (b @ matrix @ b), rtol=1e-4)
    none = solve(lambda v: held @ v, native(backend, b), 20, residual_tol=float(b @ b))
    assert (as_array(none) == 0.0).all()


def test_helper_flat_parameters(backend):
    module = agent_module(backend)
    agent = make_agent(backend, initial_log_std=0.7)
    flat = module._flat_params(agent.policy)
    sizes = {k: v.size for k, v in agent.get_state().items() if k.startswith("policy.")}
    assert tuple(flat.shape) == (sum(sizes.values()),)
    other = make_agent(backend, seed=1)
    changed = module._set_flat_params(other.policy, flat)  # In place in torch: None.
    policy = other.policy if backend == "torch" else changed
    assert (as_array(module._flat_params(policy)) == as_array(flat)).all()
    parameters = list(agent.policy.parameters()) if backend == "torch" else agent.policy
    # log_std comes first in torch's order and last in JAX's.
    if backend == "torch":
        grads = [None, *(2 * parameter for parameter in parameters[1:])]
        log_std = slice(0, ACT_DIM)
    else:
        layers = parameters["layers"].items()
        doubled = {i: {k: 2 * v for k, v in layer.items()} for i, layer in layers}
        grads = {"layers": doubled, "log_std": None}
        log_std = slice(-ACT_DIM, None)
    got, expected = as_array(module._flat_grads(grads, parameters)), 2 * as_array(flat)
    np.testing.assert_allclose(expected[log_std], 1.4, rtol=1e-6)
    expected[log_std] = 0.0
    assert (got == expected).all()
