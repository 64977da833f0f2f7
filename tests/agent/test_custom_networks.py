"""Networks that the user brings, in both backends, and what is refused of them."""

import dataclasses
import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from tests.support import callback_runs
from tests.support.agents import (
    ACT_DIM,
    BACKENDS,
    OBS_DIM,
    fingerprint,
    make_agent,
    make_batch,
)
from trpo.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from trpo.runs.directory import RunDirectory, load_agent
from trpo.runs.train import train_run
from trpo_torch.agent import _flat_params
from trpo_torch.agent.update import policy_function
from trpo_torch.policy_step.fisher import FISHER_PRODUCTS


EXAMPLES = Path(__file__).parents[2] / "examples"


class Gated(nn.Module):
    """What a multilayer perceptron is not: a product of two layers."""

    def __init__(self, outputs):
        super().__init__()
        self.one, self.two = nn.Linear(OBS_DIM, 4), nn.Linear(OBS_DIM, 4)
        self.last = nn.Linear(4, outputs)

    def forward(self, obs):
        return self.last(torch.tanh(self.one(obs)) * self.two(obs))


class GatedJax(nnx.Module):
    """The same in JAX, of the same numbers."""

    def __init__(self, like):
        for name in ("one", "two", "last"):
            layer = getattr(like, name)
            ours = nnx.Linear(layer.in_features, layer.out_features, rngs=nnx.Rngs(0))
            ours.kernel[...] = jnp.asarray(layer.weight.detach().numpy().T)
            ours.bias[...] = jnp.asarray(layer.bias.detach().numpy())
            setattr(self, name, ours)

    def __call__(self, obs):
        return self.last(jnp.tanh(self.one(obs)) * self.two(obs))


def networks(backend):
    torch.manual_seed(0)
    pair = {"policy_network": Gated(ACT_DIM), "value_network": Gated(1)}
    if backend == "jax":
        pair = {name: GatedJax(module) for name, module in pair.items()}
    # Sizes that are the default's, as others would be said to be ignored.
    return {"policy_layer_sizes": (64, 64), "critic_layer_sizes": (64, 64), **pair}


def test_both_backends_learn_alike_with_the_same_network():
    first, second = (make_agent(b, cg_iters=4, **networks(b)) for b in BACKENDS)
    batch = make_batch(first)
    for ours, theirs in zip(first.act(batch["obs"], True),
                            second.act(batch["obs"], True), strict=True):  # fmt: skip
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    metrics = [agent.update(batch) for agent in (first, second)]
    assert metrics[0]["policy/line_search_accepted"] == 1.0
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-3, abs=1e-4)
    named = [agent.get_state() for agent in (first, second)]
    assert named[0].keys() == named[1].keys()
    for name in (name for name in named[0] if "random" not in name):
        np.testing.assert_allclose(named[0][name], named[1][name], rtol=1e-3, atol=1e-4)
    # A new agent's networks, and its optimiser, take over either state.
    for agent, backend in zip((first, second), BACKENDS, strict=True):
        other = make_agent(backend, **networks(backend))
        assert fingerprint(other) != fingerprint(agent)
        other.set_state(agent.get_state())
        assert fingerprint(other) == fingerprint(agent)


def test_fisher_products_are_of_the_network_by_either_route():
    agent = make_agent("torch", **networks("torch"))
    obs = torch.from_numpy(make_batch(agent)["obs"])
    policy, theta = policy_function(agent.policy, obs), _flat_params(agent.policy)
    v = torch.ones_like(theta)
    one, other = (make(policy, theta, 0.1)(v) for make in FISHER_PRODUCTS.values())
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert (one - 0.1).norm() > 0.1


def test_a_run_continues_from_its_checkpoint_bit_for_bit(tmp_path):
    given = networks("torch")
    agent = make_agent("torch", **given)
    batch = make_batch(agent)
    agent.update(batch)
    path = save_checkpoint(tmp_path, 1, agent.get_state(), {}, keep=1)
    again = make_agent("torch", **given)
    # What was given is as it was: the agent works on a copy.
    assert fingerprint(again) != fingerprint(agent)
    again.set_state(load_checkpoint(path).arrays)
    assert fingerprint(again) == fingerprint(agent)
    for one in (agent, again):
        one.update(batch)
    assert fingerprint(again) == fingerprint(agent)


class Own(nn.Linear):
    """A network of a module that can be imported."""


def local_network():
    class Local(nn.Linear):
        pass

    return Local(4, 2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Own(4, 2), "tests.agent.test_custom_networks:Own"),
        (local_network, "given in Python"),
    ],
    ids=["named", "local"],
)
def test_a_run_says_which_networks_it_was_given_and_asks_for_them(tmp_path, make, said):
    run = tmp_path / "run"
    config = callback_runs.small(
        eval_interval=2, save_best=True, total_steps=2 * 64, policy_layer_sizes=(64, 64)
    )
    train_run(config, run, policy_network=make())
    for path in (run, run / "best"):
        metadata = RunDirectory(path).load()[0].metadata
        assert metadata["given"] == {"policy_network": said}
        for load in (load_agent, lambda path: train_run(config, path, resume=True)):
            with pytest.raises(
                CheckpointError, match=f"given in Python, `policy_network` .{said}"
            ):
                load(path)
        agent, _ = load_agent(path, policy_network=make())
        saved = RunDirectory(path).load()[0].arrays["policy.network.weight"]
        np.testing.assert_array_equal(agent.get_state()["policy.network.weight"], saved)
    longer = dataclasses.replace(config, total_steps=3 * 64)
    train_run(longer, run, resume=True, policy_network=make())
    assert RunDirectory(run).load()[0].step == 3 * 64


def torch_cases():
    linear = nn.Linear(OBS_DIM, ACT_DIM)
    frozen = nn.Linear(OBS_DIM, ACT_DIM).requires_grad_(False)
    return {
        "Dropout": nn.Sequential(linear, nn.Dropout(0.5)),
        "BatchNorm1d": nn.Sequential(linear, nn.BatchNorm1d(ACT_DIM)),
        "other rows": nn.Sequential(linear, Centered()),
        "second call": nn.Sequential(linear, Noisy()),
        "buffer": nn.Sequential(linear, Counting()),
        r"outputs \[N, 2\]": nn.Linear(OBS_DIM, ACT_DIM + 1),
        r"observations \[N, 3\]": nn.Linear(OBS_DIM + 1, ACT_DIM),
        "parameters": nn.Flatten(),
        "gradients": frozen,
        "nn.Module": lambda obs: obs,
    }


class Centered(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x


class CenteredJax(nnx.Module):
    def __call__(self, x):
        return x - x.mean(0, keepdims=True)


def jax_cases():
    rngs = nnx.Rngs(0)
    linear = nnx.Linear(OBS_DIM, ACT_DIM, rngs=rngs)
    return {
        "Rng": nnx.Sequential(linear, nnx.Dropout(0.5, rngs=rngs)),
        "BatchStat": nnx.Sequential(linear, nnx.BatchNorm(ACT_DIM, rngs=rngs)),
        "other rows": nnx.Sequential(linear, CenteredJax()),
        r"outputs \[N, 2\]": nnx.Linear(OBS_DIM, ACT_DIM + 1, rngs=rngs),
        r"observations \[N, 3\]": nnx.Linear(OBS_DIM + 1, ACT_DIM, rngs=rngs),
        "parameters": CenteredJax(),
        "nnx.Module": lambda obs: obs,
    }


@pytest.mark.parametrize(("backend", "cases"), [("torch", torch_cases),
                                                ("jax", jax_cases)])  # fmt: skip
def test_what_can_t_be_trained_is_refused_by_name(backend, cases):
    for words, network in cases().items():
        with pytest.raises(ValueError, match=f"`policy_network`: expected.*{words}"):
            make_agent(backend, policy_network=network)
    with pytest.raises(ValueError, match="`value_network`: expected"):
        make_agent(backend, value_network=cases()[r"outputs \[N, 2\]"])
    with pytest.raises(ValueError, match="`share_encoder`: expected False"):
        make_agent(backend, share_encoder=True, **networks(backend))


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_example_of_a_critic_s_fit_lowers_its_loss_and_the_agent_keeps_it(backend):
    first, second = example(f"critic_lbfgs_{backend}").train(num_updates=2)
    assert min(first) < 0.1 * first[0]
    assert second[0] < 0.2 * first[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_example_runs(backend, capsys):
    trainer = example(f"custom_network_{backend}").train(num_updates=1)
    trainer.close()
    assert "mean return" in capsys.readouterr().out
    assert any("network.blocks.1" in name for name in trainer.get_state())
