"""Agents in files, pickles and copies: each goes on as the original would."""

import copy
import json
import pickle
import struct
from collections import OrderedDict

import cloudpickle
import gymnasium
import numpy as np
import pytest
import safetensors.numpy
import torch
from gymnasium import spaces

from tests.agent.test_custom_networks import Own, networks
from tests.support.agents import (
    BACKENDS,
    agent_module,
    backend_module,
    fingerprint,
    make_agent,
    make_batch,
)
from tests.support.device_agents import KINDS, batch_of, make, observations
from trpo.common.files import FileError
from trpo.common.tensors import decode_file, encode_file
from trpo.spaces.space_fields import spec_fields, spec_of
from trpo.spaces.spaces import policy_spec


def reloaded(agent, tmp_path):
    agent.save(tmp_path / "agent.safetensors")
    return type(agent).load(tmp_path / "agent.safetensors")


COPIES = {
    "deepcopy": lambda agent, _: copy.deepcopy(agent),
    "copy": lambda agent, _: copy.copy(agent),
    "pickle": lambda agent, _: pickle.loads(pickle.dumps(agent)),
    "cloudpickle": lambda agent, _: pickle.loads(cloudpickle.dumps(agent)),
    "file": reloaded,
}


def life(agent, kind, seed):
    """What an agent reports of a few actions and an update."""
    obs = observations(agent, 4, seed)
    said = [np.asarray(part).tobytes() for part in agent.act(obs)[:3]]
    agent.observe(obs)
    return said, agent.update(batch_of(agent, kind, seed)), fingerprint(agent)


# What has other parts in its state: optimisers, a normaliser, an encoder, a memory.
NAMES = ("sgd", "normalized", "mixed", "image", "lstm", "limit")


@pytest.mark.parametrize("kind", [k for k in KINDS if k.name in NAMES],
                         ids=lambda kind: kind.name)  # fmt: skip
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_copy_goes_on_as_the_original_and_shares_nothing(backend, kind, tmp_path):
    agent = make(kind, backend, "cpu")
    life(agent, kind, 1)
    before = fingerprint(agent)
    copies = [copied(agent, tmp_path) for copied in COPIES.values()]
    lives = []
    for other in copies:
        assert fingerprint(other) == before
        lives.append(life(other, kind, 2))
        assert fingerprint(agent) == before != lives[-1][-1]
    assert all(life(agent, kind, 2) == one for one in lives[:1])
    assert all(one == lives[0] for one in lives)


@pytest.mark.parametrize(("writer", "reader"), [BACKENDS, BACKENDS[::-1]])
def test_the_other_backend_reads_the_file(writer, reader, tmp_path):
    agent = make_agent(writer, normalize_observations=True, observation_clip=3.0)
    agent.update(make_batch(agent))
    agent.save(tmp_path / "a")
    other = agent_module(reader).TRPOAgent.load(tmp_path / "a", device="auto")
    assert fingerprint(other) == fingerprint(agent)
    assert other.config == agent.config
    assert other.observation_normalizer.clip == 3.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_networks_of_the_user_s_are_copied_and_asked_for_again(backend, tmp_path):
    brought = networks(backend)
    modules = {n: part for n, part in brought.items() if n.endswith("network")}
    agent = make_agent(backend, **brought)
    agent.update(make_batch(agent))
    copied = copy.deepcopy(agent)
    assert fingerprint(copied) == fingerprint(agent)
    agent.save(tmp_path / "a")
    load = agent_module(backend).TRPOAgent.load
    assert fingerprint(load(tmp_path / "a", **modules)) == fingerprint(agent)
    with pytest.raises(ValueError, match=r"`policy_network`: expected.*Gated"):
        load(tmp_path / "a")
    # Trained, they come back by one call, as copies.
    state, trained = agent.get_state(), agent.trained_networks()
    obs = make_batch(agent)["obs"]
    native = torch.from_numpy(obs) if backend == "torch" else obs
    mean = agent.act(obs, deterministic=True)[0]
    outputs = np.asarray(trained.policy(native).tolist())
    np.testing.assert_allclose(outputs, mean, rtol=1e-4, atol=1e-6)
    assert make_agent(backend).trained_networks() == (None, None)
    learned = {n: a for n, a in agent.get_state().items() if "random" not in n}
    assert all((state[name] == a).all() for name, a in learned.items())


def test_a_pickled_agent_may_hold_a_network_of_a_module():
    """PyTorch alone: the JAX twin of this network is made of a PyTorch one."""
    agent = make_agent("torch", policy_layer_sizes=(64, 64), policy_network=Own(3, 2))
    agent.update(make_batch(agent))
    assert fingerprint(pickle.loads(pickle.dumps(agent))) == fingerprint(agent)


SPACES = {
    "box": (spaces.Box(-1.0, np.inf, (2, 3)), spaces.Box(-2.0, 3.0, (2,), np.float64)),
    "discrete": (spaces.Discrete(5, start=2), spaces.Discrete(3, start=-1)),
    "many": (
        spaces.MultiDiscrete([2, 3], start=[1, 0]),
        spaces.MultiDiscrete([[2, 3], [4, 2]]),
    ),
    "switches": (spaces.MultiBinary(4), spaces.MultiBinary((2, 2))),
    "image": (spaces.Box(0, 255, (8, 8, 3), np.uint8), spaces.Discrete(2)),
    "joint": (
        # In no order of names.
        spaces.Dict(
            OrderedDict(see=spaces.Box(0, 255, (8, 8), np.uint8), at=spaces.Discrete(3))
        ),
        spaces.Tuple(
            [
                spaces.Discrete(2),
                spaces.Dict(
                    {"x": spaces.Box(-1.0, 1.0, (2,)), "y": spaces.Discrete(4)}
                ),
            ]
        ),
    ),
}


def for_spaces(backend, name, **changes):
    module = backend_module(backend, "agent")
    sizes = {"policy_layer_sizes": (5,), "critic_layer_sizes": (5,)}
    return module.TRPOAgent.for_spaces(*SPACES[name], **sizes, **changes)


def _normalizations(agent):
    """Mean, deviation and bound of each entry; nothing where all are pixels."""
    normalizer = agent.observation_normalizer
    return () if normalizer is None else normalizer.as_vectors()


@pytest.mark.parametrize("name", SPACES)
def test_spaces_are_in_the_file(name, tmp_path):
    normalized = {"normalize_observations": True, "observation_clip": 0.75}
    agent = for_spaces("torch", name, **normalized)
    agent.save(tmp_path / "a")
    other = type(agent).load(tmp_path / "a")
    for one, two in zip(_normalizations(agent), _normalizations(other), strict=True):
        np.testing.assert_array_equal(one, two)
    assert other.spec.observation_space == SPACES[name][0]
    observation_space, action_space = SPACES[name]
    observation_space.seed(3)
    obs = observation_space.sample()
    for one, two in [(agent, other)]:
        first, second = (a.predict(obs)[0] for a in (one, two))
        assert repr(first) == repr(second)
        assert action_space.contains(first)
    again = spec_of(json.loads(json.dumps(spec_fields(agent.spec))))
    assert repr(again) == repr(agent.spec)


def spoil(content: bytes, **changes) -> bytes:
    """An agent's file with other fields in its manifest."""
    arrays, manifest = decode_file(content)
    return encode_file(arrays, manifest | changes)


def test_a_stranger_s_file_is_refused_by_a_sentence(tmp_path):
    agent = make_agent("torch")
    path = tmp_path / "agent"
    agent.save(path)
    good = path.read_bytes()
    manifest = decode_file(good)[1]
    config, spec = manifest["config"], manifest["spec"]
    huge = {"policy_layer_sizes": [40_000, 40_000]}
    bad = {
        "empty": b"",
        "cut": good[:-1],
        "a bit": good[:-9] + bytes([good[-9] ^ 1]) + good[-8:],
        "pickle": pickle.dumps(agent),
        "no manifest": safetensors.numpy.save({"a": np.zeros(3)}),
        "header": struct.pack("<Q", 2**63) + good[8:],
        "config": spoil(good, config=None),
        "unknown field": spoil(good, config=config | {"lr": 1.0}),
        "sizes": spoil(good, config=config | huge),
        "later": spoil(good, format_version=7),
        "no spec": spoil(good, spec=None),
        "head": spoil(good, spec=spec | {"head": [2, "os:system", []]}),
        "bounds": spoil(good, spec=spec | {"action_low": spec["head"]}),
        "space": spoil(good, spec=spec | {"observation_space": {"space": "eval"}}),
        "observations": spoil(good, spec=spec | {"obs_dim": 10**9}),
        "clip": spoil(good, observation_clip=-1.0),
        "networks": spoil(good, networks=[]),
    }
    said = {}
    for name, content in bad.items():
        path.write_bytes(content)
        with pytest.raises(FileError, match=r"/agent: .+\.") as error:
            type(agent).load(path)
        said[name] = str(error.value)
    assert len(set(said.values())) > 10
    path.write_bytes(good)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(FileError, match="link"):
        type(agent).load(link)
    with pytest.raises(FileNotFoundError):
        type(agent).load(tmp_path / "none")
    arrays, manifest = decode_file(good)
    arrays.pop("value.layers.0.bias")
    path.write_bytes(encode_file(arrays, manifest))
    with pytest.raises(ValueError, match=r"value\.layers\.0\.bias"):
        type(agent).load(path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_of_another_kind_of_agent_names_its_class(backend, tmp_path):
    kind = next(kind for kind in KINDS if kind.name == "lstm")
    agent = make(kind, backend, "cpu")
    agent.save(tmp_path / "a")
    with pytest.raises(ValueError, match="Take RecurrentTRPOAgent"):
        agent_module(backend).TRPOAgent.load(tmp_path / "a")


def test_a_save_is_whole_or_not_at_all(tmp_path, monkeypatch):
    agent = make_agent("torch")
    agent.save(tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    agent.act(np.zeros((1, 3)))

    def refuse(*_, **__):
        raise OSError(5, "")

    monkeypatch.setattr("os.rename", refuse)
    with pytest.raises(OSError, match="5"):
        agent.save(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == before


def test_torch_s_own_state_dict(tmp_path):
    agent, other = make_agent("torch", seed=1), make_agent("torch", seed=2)
    agent.update(make_batch(agent))
    torch.save(agent.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert fingerprint(other) == fingerprint(agent)
    with pytest.raises(ValueError, match="`state`: expected"):
        other.load_state_dict({})


@pytest.mark.parametrize("backend", BACKENDS)
def test_auto_is_a_device(backend):
    assert "cpu" in str(make_agent(backend, device="auto").device).lower()


def test_a_spec_from_an_environment_s_wrapped_spaces():
    space = policy_spec(gymnasium.spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
    assert space.observation_space == gymnasium.spaces.Box(-1, 1, (3,))
