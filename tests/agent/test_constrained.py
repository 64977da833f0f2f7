"""Constrained updates of either backend's agent: limits, state, refusals."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from parity_tests.common.process_setup import AS_USERS
from tests.support.agents import (
    ACT_DIM,
    BACKENDS,
    OBS_DIM,
    agent_module,
    fingerprint,
    make_agent,
    make_batch,
)
from trpo.data.report import COST_METRICS, StepKind, StepStatus


NO_LIMIT = -np.inf
# One for all, so that JAX compiles once.
SIZE = 120


def make(backend, **changes):
    module = __import__(f"trpo_{backend}.agent.constrained", fromlist=["x"])
    arguments = {
        "obs_dim": OBS_DIM, "act_dim": ACT_DIM, "action_low": -1.0, "action_high": 1.0,
        "device": "cpu", "policy_layer_sizes": (5, 4), "critic_layer_sizes": (6,),
        "value_epochs": 2, "value_minibatch_size": 16, "cost_limit": 1.0,
    }  # fmt: skip
    return module.ConstrainedTRPOAgent(**(arguments | changes))


def with_costs(batch, excess, seed=1):
    generator = np.random.default_rng(seed)
    size = len(batch["obs"])
    return {
        **batch,
        "cost_advantages": generator.standard_normal(size).astype(np.float32),
        "cost_returns": 3.0 + generator.standard_normal(size).astype(np.float32),
        "cost_excess": excess,
    }


# Options of the policy step, together; the rings have them apart.
OPTIONS = {"line_search": "none", "fisher_every": 2, "entropy_coefficient": 0.1}


@pytest.fixture
def as_users_compile(monkeypatch):
    """JAX's updates compiled as users': others fuse two programs' sums otherwise."""
    import jax

    from trpo_jax.agent import agent, update as compiled

    full = jax.jit(
        compiled.pure_update, static_argnums=(0, 1), compiler_options=AS_USERS
    )
    monkeypatch.setattr(agent, "update", full)


@pytest.mark.usefixtures("as_users_compile")
@pytest.mark.parametrize(
    ("backend", "options"), [("torch", {}), ("jax", {}), ("torch", OPTIONS)]
)
def test_without_a_limit_it_is_trpo_bit_for_bit(backend, options):
    plain, constrained = make_agent(backend, **options), make(backend, **options)
    for seed in range(4):
        batch = make_batch(plain, SIZE, seed)
        ours = plain.update(batch)
        # Acting draws: both agents have to have acted as often.
        make_batch(constrained, SIZE, seed)
        theirs = constrained.update(with_costs(batch, NO_LIMIT, seed))
        assert theirs["cost/step_kind"] == StepKind.FREE
        assert theirs["cost/cost_multiplier"] == 0.0
        if backend == "torch":
            assert {name: theirs[name] for name in ours} == ours
        for name, number in ours.items():
            # XLA fuses what is only reported in another way.
            assert theirs[name] == pytest.approx(number, rel=1e-6, abs=1e-9), name
    left, right = fingerprint(plain), fingerprint(constrained)
    assert {name: right[name] for name in left} == left
    extra = set(right) - set(left)
    assert extra == {f"cost_{name}" for name in left if name.startswith("value")}
    # The cost critic has learned another thing, from other weights.
    assert right["cost_value.layers.0.weight"] != left["value.layers.0.weight"]


@pytest.mark.usefixtures("as_users_compile")
@pytest.mark.parametrize("backend", BACKENDS)
def test_options_of_the_policy_step_are_trpos_too(backend):
    options = {"entropy_coefficient": 0.01, "fisher_every": 2}
    plain, constrained = make_agent(backend, **options), make(backend, **options)
    for seed in range(2):
        batch = make_batch(plain, SIZE, seed)
        make_batch(constrained, SIZE, seed)
        plain.update(batch)
        constrained.update(with_costs(batch, NO_LIMIT, seed))
    left, right = fingerprint(plain), fingerprint(constrained)
    assert {name: right[name] for name in left} == left


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_snapshot_s_state_has_the_cost_critic(backend):
    agent = make(backend)
    before, snapshot = agent.get_state(), agent.snapshot()
    agent.update(with_costs(make_batch(agent, SIZE), 0.5))
    state = agent.get_state(snapshot)
    assert set(state) == set(before)
    for name, array in before.items():
        np.testing.assert_array_equal(state[name], array)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("excess", "kind"),
    [(-0.5, StepKind.FREE), (0.005, StepKind.BOUND), (0.5, StepKind.RECOVERY)],
)
def test_each_kind_of_step_does_its_duty(backend, excess, kind):
    agent = make(backend, seed=3)
    batch = make_batch(agent, SIZE)
    agent.update(with_costs(batch, excess))  # Ratios are no longer 1.
    metrics = agent.update(with_costs(batch, excess))
    assert metrics["cost/step_kind"] == kind
    assert metrics["policy/status"] == StepStatus.ACCEPTED
    assert 0.0 < metrics["policy/kl"] <= 0.01
    change, predicted = (
        metrics[f"cost/{name}"] for name in ("surrogate_change", "predicted_change")
    )
    frac = metrics["policy/line_search_frac"]
    if kind == StepKind.FREE:
        assert metrics["policy/improvement"] > 0.0
        assert metrics["cost/cost_multiplier"] == 0.0
        assert change <= -excess
    else:
        assert change < 0.0
        assert change == pytest.approx(predicted, rel=0.5)
    if kind == StepKind.BOUND:
        # The full step removes the excess by the linear model.
        assert predicted == pytest.approx(-frac * excess, rel=1e-4)
        assert metrics["cost/cost_multiplier"] > 0.0
    if kind == StepKind.RECOVERY:
        assert metrics["cost/kl_multiplier"] == metrics["cost/cost_multiplier"] == 0.0
        # No step of this KL lowers the linear model more.
        assert predicted > -excess
    # The full step reaches the border of the damped region.
    damped = 0.5 * 0.1 * (frac * metrics["policy/step_norm"]) ** 2
    whole = metrics["policy/predicted_kl"] + damped
    assert whole == pytest.approx(frac**2 * 0.01, rel=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_that_would_break_the_limit_is_shortened_or_left(backend):
    # Cost and reward are the same thing, and nothing more may be spent.
    agent = make(backend, seed=3)
    batch = with_costs(make_batch(agent, SIZE), 0.0)
    batch["cost_advantages"] = batch["advantages"]
    before = fingerprint(agent)
    metrics = agent.update(batch)
    assert metrics["cost/surrogate_change"] <= 0.0
    if metrics["policy/status"] != StepStatus.ACCEPTED:
        after = fingerprint(agent)
        policy = [name for name in before if name.startswith("policy.")]
        assert all(before[name] == after[name] for name in policy)
    free = make(backend, seed=3)
    make_batch(free, SIZE)
    metrics = free.update(batch | {"cost_excess": -0.01})
    assert metrics["policy/line_search_accepted"] == 1.0
    assert 0.0 < metrics["cost/surrogate_change"] <= 0.01
    assert metrics["cost/step_kind"] == StepKind.BOUND


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_that_vanish(backend):
    agent = make(backend, seed=3)
    batch = with_costs(make_batch(agent, SIZE), 0.5)
    zeros = np.zeros(SIZE, np.float32)
    # No reward: the cost can still be lowered.
    metrics = agent.update(batch | {"advantages": zeros})
    assert metrics["policy/status"] == StepStatus.ACCEPTED
    assert metrics["cost/surrogate_change"] < 0.0
    assert metrics["policy/improvement"] == 0.0
    # No cost: it is TRPO's step, as nothing can be done about the excess.
    metrics = agent.update(batch | {"cost_advantages": zeros})
    assert metrics["cost/step_kind"] == StepKind.FREE
    assert metrics["policy/improvement"] > 0.0
    metrics = agent.update(batch | {"advantages": zeros, "cost_advantages": zeros})
    assert metrics["policy/status"] == StepStatus.ZERO_GRADIENT


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_update_that_overflows_changes_nothing(backend):
    agent = make(backend)
    batch = make_batch(agent, SIZE)
    for name, value in (("cost_advantages", 3e38), ("cost_returns", 3e38)):
        before = fingerprint(agent)
        huge = with_costs(batch, 0.5)
        huge[name] = np.full_like(huge[name], value)
        metrics = agent.update(huge)
        assert metrics["policy/status"] == StepStatus.NON_FINITE
        assert metrics["cost/surrogate_change"] == metrics["policy/kl"] == 0.0
        assert fingerprint(agent) == before
    metrics = agent.update(with_costs(batch, 0.5))
    assert metrics["policy/status"] == StepStatus.ACCEPTED


def test_both_backends_agree_and_load_each_others_state():
    first, second = (make(backend, seed=5) for backend in BACKENDS)
    assert fingerprint(first) == fingerprint(second)
    batch = with_costs(make_batch(first, SIZE), 0.005)
    make_batch(second, SIZE)
    ours, theirs = (agent.update(batch) for agent in (first, second))
    assert set(ours) == set(theirs) >= set(COST_METRICS)
    for name, number in ours.items():
        # In float32 a residual at its tolerance falls to either side.
        if not name.endswith(("iterations", "cg/residual")):
            assert theirs[name] == pytest.approx(number, rel=2e-3, abs=2e-5), name
    second.set_state(first.get_state())
    assert fingerprint(first) == fingerprint(second)
    obs = batch["obs"]
    np.testing.assert_allclose(
        first.cost_value(obs), second.cost_value(obs), rtol=1e-5, atol=1e-6
    )
    assert not np.allclose(first.cost_value(obs), first.value(obs))


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_batches_are_refused_by_name(backend):
    agent = make(backend)
    batch = with_costs(make_batch(agent, SIZE), 0.0)
    before = fingerprint(agent)
    for name, value in (
        ("cost_advantages", None),
        ("cost_excess", None),
        ("cost_excess", np.nan),
        ("cost_excess", np.inf),
        ("cost_excess", [0.0, 1.0]),
        ("cost_excess", "much"),
        ("cost_returns", batch["cost_returns"][1:]),
        ("cost_returns", np.full(SIZE, np.nan)),
        ("obs", batch["obs"][:, 1:]),
    ):
        with pytest.raises(ValueError, match=name):
            agent.update(batch | {name: value})
    assert fingerprint(agent) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_agents_of_the_wrong_kind_are_refused(backend):
    with pytest.raises(ValueError, match="ConstrainedTRPOAgent"):
        make_agent(backend, cost_limit=1.0)
    with pytest.raises(ValueError, match="`cost_limit`: expected a number"):
        make(backend, cost_limit=None)
    with pytest.raises(ValueError, match="no recurrent cost critic"):
        make(backend, recurrent="gru")
    recurrent = __import__(f"trpo_{backend}", fromlist=["x"]).RecurrentTRPOAgent
    with pytest.raises(ValueError, match="`cost_limit`"):
        recurrent(3, 2, -1.0, 1.0, "cpu", (4,), (4,), cost_limit=1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_networks_have_cost_critics_of_their_kind(backend):
    agent = make(backend, share_encoder=True, optimizer_type="sgd")
    state = agent.get_state()
    assert state["cost_value.layers.0.weight"].shape == (6, 4)
    assert "cost_value_optimizer.momentum.layers.0.weight" in state
    metrics = agent.update(with_costs(make_batch(agent, SIZE), 0.5))
    assert metrics["policy/status"] == StepStatus.ACCEPTED
    assert dataclasses.asdict(agent.config)["cost_limit"] == 1.0
    assert agent_module(backend).TRPOAgent is not type(agent)


def test_a_users_own_critic_is_copied_for_costs():
    own = torch.nn.Sequential(torch.nn.Linear(OBS_DIM, 4), torch.nn.Linear(4, 1))
    agent = make("torch", value_network=own, critic_layer_sizes=(64, 64))
    batch = with_costs(make_batch(agent, SIZE), 0.5)
    obs = batch["obs"]
    np.testing.assert_array_equal(agent.value(obs), agent.cost_value(obs))
    agent.update(batch)
    assert not np.allclose(agent.value(obs), agent.cost_value(obs))
    assert "cost_value.network.0.weight" in agent.get_state()


@pytest.mark.parametrize("backend", BACKENDS)
def test_choices_with_masks_keep_a_limit_too(backend):
    module = agent_module(backend)
    kind = __import__(module.__name__.split(".")[0], fromlist=["x"])
    agent = kind.ConstrainedTRPOAgent.for_spaces(
        spaces.Box(-1.0, 1.0, (OBS_DIM,)), spaces.Discrete(3), cost_limit=1.0,
        policy_layer_sizes=(5,), critic_layer_sizes=(4,), value_epochs=1,
    )  # fmt: skip
    obs = np.random.default_rng(0).standard_normal((60, OBS_DIM)).astype(np.float32)
    mask = np.ones((60, 3))
    mask[::2, 1] = 0
    actions, log_probs, values = agent.act(obs, action_mask=mask)
    batch = {"obs": obs, "actions": actions, "log_probs": log_probs}
    batch |= {"returns": values + 1.0, "advantages": obs[:, 0], "action_mask": mask}
    metrics = agent.update(with_costs(batch, 0.5))
    assert metrics["policy/status"] == StepStatus.ACCEPTED
    assert metrics["cost/surrogate_change"] < 0.0
