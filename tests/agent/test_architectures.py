"""Networks other than plain tanh ones: activations and layer normalisation."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from tests.support.agents import BACKENDS, fingerprint, make_agent, make_batch
from trpo.config.agent import TRPOConfig
from trpo.config.choices import choices_of
from trpo_jax.networks import feedforward as jax_mlp
from trpo_torch.networks import feedforward as torch_mlp


@pytest.mark.parametrize("name", choices_of(TRPOConfig)["activation"])
def test_an_activation_is_its_definition_and_alike_in_both(name):
    x = np.array([-90.0, -6.0, -0.7, -1e-3, 0.0, 1e-3, 0.7, 6.0, 90.0], np.float32)
    exact = torch.from_numpy(x.astype(np.float64))
    want = {
        "tanh": exact.tanh(),
        "relu": exact.clamp(min=0.0),
        "elu": torch.where(exact > 0, exact, torch.expm1(exact)),
        "gelu": exact * 0.5 * torch.erfc(-exact / 2.0**0.5),
        "silu": exact * torch.sigmoid(exact),
    }[name]
    for found in (
        torch_mlp.ACTIVATIONS[name](torch.from_numpy(x)).numpy(),
        np.asarray(jax_mlp.ACTIVATIONS[name](jnp.asarray(x))),
    ):
        np.testing.assert_allclose(found, want, rtol=2e-6, atol=1e-7)


def test_layer_normalisation_is_flax_s_and_far_from_zero_too():
    rng = np.random.default_rng(0)
    x = (1000.0 + rng.standard_normal((4, 9))).astype(np.float32)
    scale, shift = rng.standard_normal((2, 9)).astype(np.float32)
    layer = nnx.LayerNorm(9, epsilon=1e-5, use_fast_variance=False, rngs=nnx.Rngs(0))
    layer.scale[...], layer.bias[...] = jnp.asarray(scale), jnp.asarray(shift)
    ours = jax_mlp._layer_norm(*map(jnp.asarray, (x, scale, shift)))
    np.testing.assert_allclose(ours, layer(jnp.asarray(x)), rtol=1e-4, atol=1e-4)
    exact = x.astype(np.float64)
    exact -= exact.mean(1, keepdims=True)
    exact /= np.sqrt((exact**2).mean(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(ours, exact * scale + shift, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layer_normalisation_adds_its_arrays_under_canonical_names(backend):
    plain, normed = (make_agent(backend, layer_norm=on) for on in (False, True))
    before, after = plain.get_state(), normed.get_state()
    added = {name: after[name] for name in after if name not in before}
    policy = {"policy.norms.0": 5, "policy.norms.1": 4, "value.norms.0": 6}
    for name, size in policy.items():
        np.testing.assert_array_equal(added.pop(f"{name}.weight"), np.ones(size))
        np.testing.assert_array_equal(added.pop(f"{name}.bias"), np.zeros(size))
    assert {name.partition(".")[0] for name in added} == {"value_optimizer"}
    assert all((after[name] == before[name]).all() for name in before)


def test_backends_agree_and_load_each_others_state():
    kind = {"activation": "gelu", "layer_norm": True}
    # Few products: the number until convergence is a matter of rounding.
    first, second = (make_agent(backend, cg_iters=4, **kind) for backend in BACKENDS)
    assert fingerprint(first) == fingerprint(second)
    batch = make_batch(first)
    old = second.act(batch["obs"])[1]
    np.testing.assert_allclose(old, batch["log_probs"], rtol=1e-5, atol=1e-6)
    metrics = [agent.update(batch) for agent in (first, second)]
    assert metrics[0]["policy/line_search_accepted"] == 1.0
    assert 1e-3 < metrics[0]["policy/kl"] <= 0.01
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-3, abs=1e-4)
    ours, theirs = first.get_state(), second.get_state()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], rtol=1e-3, atol=1e-4)
    second.set_state(ours)
    assert fingerprint(second) == fingerprint(first)


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_by_hand_of_another_activation_teach_it(backend):
    agent = make_agent(
        backend, activation="elu", target_kl=0.05, cg_damping=0.01,
        policy_layer_sizes=(8,), critic_layer_sizes=(8,), value_lr=1e-2,
    )  # fmt: skip
    rng, scores, errors = np.random.default_rng(0), [], []
    for _ in range(40):
        obs = rng.standard_normal((64, 3)).astype(np.float32)
        actions, log_probs, _ = agent.act(obs)
        # To be met: the first two entries' sum and product.
        goal = np.stack([obs[:, 0] + obs[:, 1], obs[:, 0] * obs[:, 1]], 1)
        rewards = -((actions - goal) ** 2).sum(1)
        advantages = (rewards - rewards.mean()) / rewards.std()
        target = np.tanh(obs[:, 0])
        metrics = agent.update(
            {"obs": obs, "actions": actions, "log_probs": log_probs,
             "returns": target, "advantages": advantages}
        )  # fmt: skip
        scores.append(rewards.mean())
        errors.append(metrics["value/mae"])
    assert np.mean(scores[:3]) < -4.0
    assert np.mean(scores[-3:]) > -1.5
    assert errors[-1] < 0.25 * errors[0]
