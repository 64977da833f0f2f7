"""The original agent's interface, held as data: names, order, defaults, shapes.

What is added comes after, by keyword or with a default, so that code written for the
original runs on either backend.
"""

import inspect

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
from trpo.data.report import METRIC_NAMES


pytestmark = pytest.mark.parametrize("backend", BACKENDS)

# No default.
NEEDED = inspect.Parameter.empty
CONSTRUCTOR = {
    "obs_dim": NEEDED,
    "act_dim": NEEDED,
    "action_low": NEEDED,
    "action_high": NEEDED,
    "device": NEEDED,
    "policy_layer_sizes": NEEDED,
    "critic_layer_sizes": NEEDED,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "target_kl": 0.01,
    "cg_iters": 10,
    "cg_damping": 0.1,
    "backtrack_coeff": 0.8,
    "backtrack_iters": 10,
    "value_lr": 3e-4,
    "value_epochs": 10,
    "value_minibatch_size": 256,
    "max_grad_norm": 0.5,
    "normalize_advantages": True,
    "optimizer_type": "adam",
    "sgd_momentum": 0.9,
}
METHODS = {
    "act": {"obs": NEEDED, "deterministic": False},
    "update": {"batch": NEEDED},
    "_build_value_optimizer": {"params": NEEDED},
    "_policy_objective": dict.fromkeys(
        ("obs", "actions", "old_log_probs", "advantages"), NEEDED
    ),
}
FUNCTIONS = {
    "_flat_params": {"module": NEEDED},
    "_set_flat_params": {"module": NEEDED, "flat_params": NEEDED},
    "_flat_grads": {"grads": NEEDED, "params": NEEDED},
    "_conjugate_gradient": {
        "Avp": NEEDED, "b": NEEDED, "nsteps": NEEDED, "residual_tol": 1e-10
    },
    "_kl_old_to_new": dict.fromkeys(
        ("old_mean", "old_log_std", "new_mean", "new_log_std"), NEEDED
    ),
}  # fmt: skip
METRICS = (
    "policy/surrogate_before",
    "policy/surrogate_after",
    "policy/improvement",
    "policy/kl",
    "policy/entropy",
    "policy/step_norm",
    "policy/expected_improve",
    "policy/line_search_frac",
    "policy/line_search_accepted",
    "policy/ratio_mean",
    "policy/ratio_std",
    "policy/old_approx_kl",
    "loss/value",
    "value/mae",
    "value/explained_variance",
)
ADDED_METRICS = (
    "cg/iterations",
    "cg/residual",
    "policy/status",
    "policy/predicted_kl",
    "policy/agreement",
)


def differences(function, expected: dict) -> list[str]:
    """Where a bound function's signature is not `expected` and optional additions."""
    found = list(inspect.signature(function).parameters.values())
    wrong = []
    for i, (name, default) in enumerate(expected.items()):
        if i >= len(found) or found[i].name != name:
            wrong.append(f"{name}: not parameter {i}")
        elif found[i].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            wrong.append(f"{name}: {found[i].kind.description}")
        elif found[i].default != default or type(found[i].default) is not type(default):
            wrong.append(f"{name}: default {found[i].default!r}, not {default!r}")
    wrong += [
        f"{added.name}: an addition without a default"
        for added in found[len(expected) :]
        if added.default is NEEDED and added.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    return wrong


def test_signatures_are_the_original_ones(backend):
    module = agent_module(backend)
    agent = make_agent(backend)
    assert differences(module.TRPOAgent, CONSTRUCTOR) == []
    for name, expected in METHODS.items():
        assert differences(getattr(agent, name), expected) == [], name
    for name, expected in FUNCTIONS.items():
        assert differences(getattr(module, name), expected) == [], name


def test_what_is_added_to_the_constructor_goes_by_keyword(backend):
    found = inspect.signature(agent_module(backend).TRPOAgent).parameters
    added = list(found.values())[len(CONSTRUCTOR) :]
    allowed = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    assert [p.name for p in added if p.kind not in allowed] == []
    agent = make_agent(backend, seed=3, dtype="float32", fisher_product="kl_hessian")
    assert (agent.seed, agent.config.fisher_product) == (3, "kl_hessian")


def test_metrics_are_the_original_ones_and_those_added(backend):
    assert set(METRIC_NAMES) == {*METRICS, *ADDED_METRICS}
    agent = make_agent(backend)
    assert set(agent.update(make_batch(agent))) == set(METRIC_NAMES)


def test_the_state_has_the_documented_names_and_shapes(backend):
    agent = make_agent(backend)
    state = {name: array.shape for name, array in agent.get_state().items()}
    policy, value = [(5, 3), (4, 5), (2, 4)], [(6, 3), (1, 6)]
    expected = {"policy.log_std": (ACT_DIM,), "value_optimizer.step": ()}
    for prefix, layers in (("policy.", policy), ("value.", value)):
        for i, (units, inputs) in enumerate(layers):
            expected[f"{prefix}layers.{i}.weight"] = (units, inputs)
            expected[f"{prefix}layers.{i}.bias"] = (units,)
    for name in [name for name in expected if name.startswith("value.")]:
        for moment in ("first_moment", "second_moment"):
            inner = name.removeprefix("value.")
            expected[f"value_optimizer.{moment}.{inner}"] = expected[name]
    random = {name for name in state if name.startswith("random.")}
    assert {n: shape for n, shape in state.items() if n not in random} == expected
    assert random
    momentum = make_agent(backend, optimizer_type="sgd").get_state()
    assert "value_optimizer.momentum.layers.0.weight" in momentum


def test_a_changed_signature_would_be_seen(backend):
    build = make_agent(backend)._build_value_optimizer
    assert differences(build, {}) == ["params: an addition without a default"]
    assert differences(build, {"critic": NEEDED}) == ["critic: not parameter 0"]
    assert differences(build, {"params": None})
    assert differences(build, {"params": NEEDED, "more": 1})


@pytest.mark.parametrize("optimizer_type", ["adam", "sgd"])
def test_the_optimizer_is_of_the_parameters_that_it_is_given(backend, optimizer_type):
    agent = make_agent(backend, optimizer_type=optimizer_type, value_lr=0.1)
    if backend == "torch":
        params = list(agent.critic.parameters())[:1]
        before = [as_array(p).copy() for p in agent.critic.parameters()]
        optimizer = agent._build_value_optimizer(params)
        for parameter in agent.critic.parameters():
            parameter.grad = parameter.detach() * 0.0 + 1.0
        optimizer.step()
        after = [as_array(p) for p in agent.critic.parameters()]
        changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == [True, *[False] * (len(before) - 1)]
        return
    params = {"weight": native(backend, np.ones((2, 3), np.float32))}
    optimizer = agent._build_value_optimizer(params)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(as_array(updates["weight"]), -0.1, rtol=1e-4)
