"""A network of the user's own, trained in one framework, goes on in the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from tests.support.agents import fingerprint, make_agent, make_batch
from trpo_jax.agent import state as jax_state


SIDE, UNITS, ACT_DIM = 4, 5, 2
OBS_DIM = SIDE * SIDE


class OwnTorch(nn.Module):
    """Every layer that is bridged, a parameter of its own, a list and a Sequential."""

    def __init__(self, outputs):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 2)
        self.norm = nn.LayerNorm(3 * 9, eps=1e-6)
        self.table = nn.Embedding(7, UNITS)
        self.head = nn.Sequential(
            nn.Linear(3 * 9, UNITS), nn.Tanh(), nn.Linear(UNITS, UNITS, bias=False)
        )
        self.more = nn.ModuleList([nn.Linear(UNITS, UNITS) for _ in range(2)])
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, UNITS))
        self.last = nn.Linear(UNITS, outputs)

    def forward(self, obs):
        x = torch.tanh(self.conv(obs.reshape(-1, 1, SIDE, SIDE)))
        # As JAX has them: channels last.
        x = self.norm(x.permute(0, 2, 3, 1).flatten(1))
        x = self.head(x) * self.scale + self.table.weight[3]
        for layer in self.more:
            x = x + torch.tanh(layer(x))
        return self.last(x)


class OwnJax(nnx.Module):
    """The same."""

    def __init__(self, outputs):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(1, 3, (2, 2), padding="VALID", rngs=rngs)
        self.norm = nnx.LayerNorm(3 * 9, rngs=rngs)
        self.table = nnx.Embed(7, UNITS, rngs=rngs)
        self.head = nnx.Sequential(
            nnx.Linear(3 * 9, UNITS, rngs=rngs),
            jnp.tanh,
            nnx.Linear(UNITS, UNITS, use_bias=False, rngs=rngs),
        )
        self.more = nnx.List([nnx.Linear(UNITS, UNITS, rngs=rngs) for _ in range(2)])
        self.scale = nnx.Param(jnp.ones(UNITS))
        self.last = nnx.Linear(UNITS, outputs, rngs=rngs)

    def __call__(self, obs):
        x = jnp.tanh(self.conv(obs.reshape(-1, SIDE, SIDE, 1)))
        x = self.norm(x.reshape(len(obs), -1))
        x = self.head(x) * self.scale[...] + self.table.embedding[...][3]
        for layer in self.more:
            x = x + jnp.tanh(layer(x))
        return self.last(x)


KINDS = {"torch": OwnTorch, "jax": OwnJax}


def agent_of(backend, **options):
    torch.manual_seed(0)
    kind = KINDS[backend]
    return make_agent(
        backend, obs_dim=OBS_DIM, act_dim=ACT_DIM, policy_layer_sizes=(64, 64),
        critic_layer_sizes=(64, 64), cg_iters=3, value_epochs=2,
        policy_network=kind(ACT_DIM), value_network=kind(1), **options,
    )  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [("torch", "jax"), ("jax", "torch")])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_one_has_learned_the_other_goes_on_with(one, other, optimizer, tmp_path):
    first = agent_of(one, optimizer_type=optimizer)
    batch = make_batch(first)
    first.update(batch)
    second = agent_of(other, optimizer_type=optimizer)
    assert second.get_state().keys() == first.get_state().keys()
    assert fingerprint(second) != fingerprint(first)
    second.set_state(first.get_state())
    assert fingerprint(second) == fingerprint(first)
    for ours, theirs in zip(first.act(batch["obs"], True),
                            second.act(batch["obs"], True), strict=True):  # fmt: skip
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    metrics = [agent.update(batch) for agent in (first, second)]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-2, abs=1e-3)
    # And through a file.
    first.save(tmp_path / "agent")
    kind = KINDS[other]
    loaded = type(second).load(
        tmp_path / "agent", policy_network=kind(ACT_DIM), value_network=kind(1)
    )
    assert fingerprint(loaded) == fingerprint(first)


def older_names(agent):
    """A state as it was before JAX's own networks had canonical names."""
    renamings = map(jax_state.inverse, agent.backend._renamings)
    return jax_state.renamed(agent.get_state(), *renamings)


def test_states_of_before_there_was_a_rule_are_read():
    agent = agent_of("jax")
    agent.update(make_batch(agent))
    older = older_names(agent)
    assert "policy.network.head.layers.0.kernel" in older
    assert older["value_optimizer.first_moment.network.conv.kernel"].shape[-1] == 3
    other = agent_of("jax")
    other.set_state(older)
    assert fingerprint(other) == fingerprint(agent)


def grouped(backend):
    if backend == "torch":
        return nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Linear(4, 2))
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        nnx.Linear(3, 4, rngs=rngs),
        nnx.GroupNorm(4, num_groups=2, rngs=rngs),
        nnx.Linear(4, 2, rngs=rngs),
    )


@pytest.mark.parametrize(("one", "other"), [("torch", "jax"), ("jax", "torch")])
def test_other_layers_are_refused_by_a_sentence(one, other):
    first, second = (
        make_agent(backend, policy_network=grouped(backend), obs_dim=3, act_dim=2,
                   policy_layer_sizes=(64, 64))
        for backend in (one, other)
    )  # fmt: skip
    before = fingerprint(second)
    with pytest.raises(ValueError, match="Linear, Conv, LayerNorm and Embedding alone"):
        second.set_state(first.get_state())
    assert fingerprint(second) == before


def test_names_are_those_of_any_number_of_dimensions():
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(
        nnx.Conv(2, 3, (5,), rngs=rngs), nnx.Conv(3, 4, (2, 3, 4), rngs=rngs)
    )
    kernels = {
        name: np.shape(leaf)
        for name, leaf in (
            (".".join(map(str, path)), variable[...])
            for path, variable in nnx.to_flat_state(nnx.state(net))
        )
        if name.endswith("kernel")
    }
    shapes = {
        renaming.name: tuple(kernels[name][axis] for axis in renaming.axes)
        for name, renaming in jax_state.canonical_names(net).items()
        if name in kernels
    }
    like = nn.Sequential(nn.Conv1d(2, 3, 5), nn.Conv3d(3, 4, (2, 3, 4)))
    assert shapes == {
        name: tuple(p.shape) for name, p in like.named_parameters() if "weight" in name
    }
    assert jax.tree.leaves(kernels)
