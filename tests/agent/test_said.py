"""What an agent says of settings that do nothing where it is used, and its help."""

import dataclasses
import pydoc
import warnings

import numpy as np
import pytest
import torch
from flax import nnx

from tests.agent.test_custom_networks import networks
from tests.support.agents import (
    BACKENDS,
    agent_module,
    backend_module,
    make_agent,
    make_batch,
    native,
)
from tests.support.device_agents import KINDS, batch_of, make
from trpo.config.agent import FIELD_TEXTS, TRPOConfig
from trpo.config.presets import preset_config
from trpo.spaces.architecture import Image
from trpo.training.trainer import Trainer


@pytest.mark.parametrize("backend", BACKENDS)
def test_advantages_that_are_not_centred_are_said_once(backend):
    agent = make_agent(backend)
    batch = make_batch(agent)
    fives = np.full(40, 5.0, np.float32)
    for shift in (0.0, 0.2):
        other = make_agent(backend)
        other.update(batch | {"advantages": batch["advantages"] + np.float32(shift)})
        # Only the first batch is looked at.
        other.update(batch | {"advantages": fives})
    with pytest.warns(UserWarning, match=r"`normalize_advantages` is on.*mean 5 "):
        agent.update(batch | {"advantages": fives})
    agent.update(batch | {"advantages": fives})
    with pytest.warns(UserWarning, match="normalize_advantages=False"):
        make_agent(backend).update(batch | {"advantages": native(backend, fives)})
    knowing = make_agent(backend, normalize_advantages=False)
    knowing.update(batch | {"advantages": fives})
    for name in ("lstm", "limit"):
        kind = next(kind for kind in KINDS if kind.name == name)
        other = make(kind, backend, "cpu")
        samples = batch_of(other, kind)
        with pytest.warns(UserWarning, match="`normalize_advantages` is on"):
            other.update(samples | {"advantages": samples["advantages"] + 9.0})


@pytest.mark.parametrize("backend", BACKENDS)
def test_refused_warnings_change_nothing(backend):
    agent = make_agent(backend)
    batch = make_batch(agent)
    before = agent.get_state()
    with warnings.catch_warnings(action="error"), pytest.raises(UserWarning):
        agent.update(batch | {"advantages": np.full(40, 5.0)})
    assert all((agent.get_state()[name] == a).all() for name, a in before.items())


@pytest.mark.parametrize("options", [{}, {"recurrent": "gru"}], ids=str)
def test_a_trainer_says_nothing(options):
    sizes = {"num_envs": 2, "rollout_steps": 8, "total_steps": 32}
    trainer = Trainer(preset_config("Pendulum-v1", backend="torch", **sizes, **options))
    trainer.run()
    trainer.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_options_that_a_network_of_one_s_own_ignores_are_said(backend):
    both = networks(backend)
    make_agent(backend, **both)
    odd = {
        "policy_layer_sizes": (8,), "critic_layer_sizes": (9,), "activation": "relu",
        "layer_norm": True, "initialization": "torch",
    }  # fmt: skip
    with pytest.warns(UserWarning, match="not used, as a network of your own") as said:
        make_agent(backend, **(both | odd))
    assert all(f"`{name}`" in str(said[0].message) for name in odd)
    # What the other network has is not ignored.
    one = {"policy_network": both["policy_network"]}
    with pytest.warns(UserWarning, match=r"^`policy_layer_sizes`: not used"):
        make_agent(backend, **odd, **one)


class Columns(torch.nn.Module):
    """The first column of pixels, times one."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, obs):
        return obs[:, :1] * self.scale


class ColumnsJax(nnx.Module):
    def __init__(self):
        self.scale = nnx.Param(np.ones(1, np.float32))

    def __call__(self, obs):
        return obs[:, :1] * self.scale[...][None]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_of_one_s_own_sees_pixels_from_0_to_1(backend):
    network = {"torch": Columns, "jax": ColumnsJax}[backend]
    agent = agent_module(backend).TRPOAgent(
        5, 1, -9.0, 9.0, "cpu", (64, 64), (64, 64), images=[Image(0, 2, 2, 1)],
        policy_network=network(), value_network=network(),
    )  # fmt: skip
    obs = np.array([[255.0, 0.0, 0.0, 0.0, 3.0], [51.0, 0.0, 0.0, 0.0, 3.0]])
    action, _, value = agent.act(obs, deterministic=True)
    np.testing.assert_allclose(action[:, 0], [1.0, 0.2], rtol=1e-6)
    np.testing.assert_allclose(value[:, 0], [1.0, 0.2], rtol=1e-6)


@pytest.mark.parametrize("name", ["", "Recurrent", "Constrained"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_help_explains_every_parameter(backend, name):
    package = backend_module(backend, "agent").__name__.partition(".")[0]
    cls = getattr(__import__(package), f"{name}TRPOAgent")
    shown = help_of(cls)
    names = {field.name for field in dataclasses.fields(TRPOConfig)}
    assert set(FIELD_TEXTS) == names
    for field, text in FIELD_TEXTS.items():
        assert on_one_line(f"{field}: {text}") in shown
    for argument in ("obs_dim", "action_low", "seed", "observation_clip", "images"):
        assert f" {argument}: " in shown
    assert name or "Advantages and returns are taken as they are." in shown


def on_one_line(text):
    return " ".join(text.replace("|", " ").split())


def help_of(cls):
    """What `help` shows, without its line along the edge."""
    return on_one_line(pydoc.plain(pydoc.render_doc(cls)))


def test_help_of_the_configuration_explains_every_field():
    shown = help_of(TRPOConfig)
    assert "Attributes:" in shown
    for field, text in FIELD_TEXTS.items():
        assert on_one_line(f"{field}: {text}") in shown
