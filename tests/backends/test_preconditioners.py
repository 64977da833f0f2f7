"""Preconditioners: near the Fisher matrix, the same solution, fewer products."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from tests.support.agents import (
    BACKENDS,
    as_array,
    backend_module as module,
    make_agent,
    native,
    samples,
    updated,
)
from trpo.agent.make import load_backend
from trpo.config.presets import preset_config
from trpo.training.trainer import Trainer
from trpo_torch.agent.agent import _flat_params
from trpo_torch.policy_step.fisher import gauss_newton_product
from trpo_torch.policy_step.flat_policy import FlatPolicy
from trpo_torch.policy_step.step import policy_step
from trpo_torch.preconditioner import PRECONDITIONERS


both = pytest.mark.parametrize("backend", BACKENDS)
KINDS = ("diagonal", "kronecker")
DENSE = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]])
B = np.array([1.0, -2.0, 0.5])


@both
def test_with_the_inverse_one_product_is_enough(backend):
    solve = module(backend, "preconditioned_cg").preconditioned_conjugate_gradient
    inverse = np.linalg.inv(DENSE)
    dense, b, exact, rough = (
        native(backend, array.astype(np.float32))
        for array in (DENSE, B, inverse, inverse + 0.05 * np.eye(3))
    )
    for precondition, steps in ((exact, 1), (rough, 3)):
        found = solve(
            lambda v: dense @ v,
            b,
            9,
            1e-9,
            precondition=lambda v, m=precondition: m @ v,
        )
        assert int(found.num_steps) == steps
        np.testing.assert_allclose(as_array(found.x), inverse @ B, rtol=1e-4)
        # The plain residual's norm, whatever the metric.
        residual = B - DENSE @ as_array(found.x)
        np.testing.assert_allclose(as_array(found.residual), residual, atol=1e-5)
        assert float(found.residual_sq) <= 1e-9


def many_samples(rows=100_000, **changes):
    """A policy at samples of 20 observations, and at these; its parameters; actions."""
    agent = make_agent("torch", dtype="float64", **changes)
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter += torch.from_numpy(
                0.4 * generator.standard_normal(parameter.shape)
            )
    few = generator.standard_normal((20, 3))
    obs = np.repeat(few, rows // 20, axis=0)
    actions = torch.from_numpy(agent.act(obs)[0])
    policies = (FlatPolicy(agent.policy, torch.from_numpy(x)) for x in (obs, few))
    return *policies, _flat_params(agent.policy), actions


@pytest.mark.parametrize(
    "changes",
    [{}, {"distribution": "categorical", "action_sizes": (3, 2)},
     {"distribution": "gaussian_state_std", "activation": "relu"}],
    ids=str,
)  # fmt: skip
def test_the_diagonal_is_the_fisher_matrix_s(changes):
    policy, few, theta, actions = many_samples(**changes)
    product = gauss_newton_product(few, theta, 0.0)
    fisher = torch.stack([product(e) for e in torch.eye(len(theta)).double()])
    solve = PRECONDITIONERS["diagonal"](policy, theta, actions, 0.01)
    found = solve(torch.ones_like(theta)) ** (-1.0 / 0.75) - 0.01
    # An estimate from 5,000 actions for each observation.
    error = (found - fisher.diagonal()).norm() / fisher.diagonal().norm()
    assert error < 0.03


def test_the_last_layer_s_block_is_the_fisher_matrix_s():
    # Its score is of the action alone, independent of the layer's input.
    policy, few, theta, actions = many_samples()
    product = gauss_newton_product(few, theta, 0.0)
    last = slice(len(theta) - 10, len(theta))  # [2, 4] weights, and 2 biases.
    identity = torch.eye(len(theta)).double()
    block = torch.stack([product(e) for e in identity[last]])[:, last].numpy()
    solve = PRECONDITIONERS["kronecker"](policy, theta, actions, 1e-10)
    inverse = torch.stack([solve(e) for e in identity[last]])[:, last].numpy()
    np.testing.assert_allclose(
        inverse @ block, np.eye(10), atol=0.03 * np.linalg.norm(inverse @ block)
    )
    # log_std's is exact: 2 in each entry, and nothing but the damping is added.
    found = PRECONDITIONERS["kronecker"](policy, theta, actions, 0.5)(identity[0])
    np.testing.assert_allclose(found[0], 1.0 / 2.5, rtol=1e-12)


@functools.cache
def half_cheetah():
    """What a step of HalfCheetah's first update is made of, by its configuration."""
    changes = {"num_envs": 4, "rollout_steps": 128, "dtype": "float64"}
    config = preset_config("HalfCheetah-v5", backend="torch", **changes)
    trainer = Trainer(config)
    try:
        rollout = trainer.collector.collect(trainer.agent, 128)
        agent = trainer.agent
        batch = agent._check_batch(trainer.prepare_batch(rollout).batch)
    finally:
        trainer.close()
    return agent._policy_function(batch), _flat_params(agent.policy), batch, config


def products(kind, damping):
    """Those that the solution takes, and the solution."""
    policy, theta, batch, config = half_cheetah()
    changes = {
        "preconditioner": kind, "cg_damping": damping, "cg_iters": 200,
        "cg_residual_tol": 1e-10,
    }  # fmt: skip
    agent = dataclasses.replace(config.agent, **changes)
    step = policy_step(policy, theta, batch, agent)
    return step.cg_iterations, step.cg_solution


@pytest.mark.parametrize("damping", [0.1, 1e-3])
def test_the_same_solution_in_fewer_products(damping):
    counts = {}
    counts["none"], want = products("none", damping)
    for kind in KINDS:
        counts[kind], found = products(kind, damping)
        assert (found - want).norm() <= 1e-3 * want.norm()
    assert counts["kronecker"] <= counts["none"] / 3
    if damping < 0.01:
        # Where damping hides the differences of scale, the diagonal has none to mend.
        assert counts["diagonal"] < counts["none"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_has_the_plain_one_s_step(kind):
    exact = {"cg_iters": 56, "cg_residual_tol": 1e-16, "dtype": "float64"}
    (one, report), (two, other) = (
        updated(preconditioner=name, **exact) for name in ("none", kind)
    )
    assert report["policy/step_norm"] == pytest.approx(other["policy/step_norm"], 1e-6)
    for name, array in one.get_state().items():
        np.testing.assert_allclose(two.get_state()[name], array, rtol=1e-5, atol=1e-7)


def test_overflow_is_a_status_not_an_exception():
    huge = samples() | {"obs": np.full((40, 3), 1.8e19, np.float32)}
    for kind in KINDS:
        agent, report = updated(batch=huge, preconditioner=kind, activation="relu")
        assert report["policy/status"] == 3
        assert np.isfinite(agent.get_state()["policy.log_std"]).all()


@both
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{"activation": "gelu"}, {"layer_norm": True}])
def test_what_is_no_stack_of_dense_layers_has_none(backend, kind, changes):
    with pytest.raises(ValueError, match=rf"`preconditioner`: expected 'none'.*{kind}"):
        make_agent(backend, preconditioner=kind, **changes)


@both
def test_nor_have_recurrent_and_custom_policies(backend):
    agents, message = load_backend(backend), "`preconditioner`: expected 'none'"
    sizes = (3, 2, -1.0, 1.0, "cpu", (4,), (3,))
    with pytest.raises(ValueError, match=message):
        agents.RecurrentTRPOAgent(*sizes, preconditioner="diagonal")
    with pytest.raises(ValueError, match=message):
        agents.TRPOAgent(
            *sizes, preconditioner="diagonal", policy_network=torch.nn.Linear(3, 2)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_it_needs_damping(kind):
    with pytest.raises(ValueError, match=r"`cg_damping`.*`preconditioner`.*0\.0"):
        make_agent("torch", preconditioner=kind, cg_damping=0.0)
