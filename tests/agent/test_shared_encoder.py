"""One encoder for both: the policy's, which the critic sees and does not train."""

import numpy as np
import pytest

from tests.support.agents import BACKENDS, fingerprint, make_agent, make_batch
from trpo.spaces.architecture import Image


PICTURE = {
    "images": (Image(0, 2, 1, 1),), "activation": "relu", "layer_norm": True,
}  # fmt: skip


def make(backend, **changes):
    options = {"share_encoder": True, "cg_iters": 4, "target_kl": 0.05}
    return make_agent(backend, **(options | changes))


def update(agent, batch):
    """The metrics, and the names of the networks' arrays that have changed."""
    before = fingerprint(agent)
    metrics = agent.update(batch)
    after = fingerprint(agent)
    names = [n for n in before if n.startswith(("policy.", "value."))]
    return metrics, {name for name in names if before[name] != after[name]}


@pytest.mark.parametrize(
    ("backend", "kind"),
    [("torch", {}), ("torch", PICTURE), ("jax", PICTURE)],
    ids=["torch", "torch-image", "jax-image"],
)
def test_each_half_of_an_update_changes_its_own_arrays_alone(backend, kind):
    agent = make(backend, **kind)
    batch = make_batch(agent)
    start = agent.get_state()
    policy, critic = (
        {n for n in start if n.startswith(p)} for p in ("policy.", "value.")
    )
    assert not any("encoders" in name for name in critic)
    # The policy's last hidden layer has 4 units: they are what the critic is given.
    assert start["value.layers.0.weight"].shape == (6, 4)
    value, action = agent.value(batch["obs"]), agent.act(batch["obs"], True)[0]
    no_step = batch | {"advantages": np.zeros(40, np.float32)}
    assert update(agent, no_step)[1] == critic
    assert (agent.act(batch["obs"], True)[0] == action).all()
    assert (agent.value(batch["obs"]) != value).any()
    # A critic that is right already, of an optimiser that has seen nothing.
    zero = {name: np.zeros_like(start[name]) for name in critic}
    agent.set_state(start | zero)
    _, moved = update(agent, batch | {"returns": np.zeros(40, np.float32)})
    assert moved <= policy
    assert {"policy.layers.0.weight", "policy.layers.2.weight"} <= moved
    assert any("encoders" in name for name in moved) == ("images" in kind)
    # The critic is fitted to the features of the policy that acts next.
    agent.set_state(start)
    metrics, moved = update(agent, batch)
    assert metrics["policy/line_search_accepted"] == 1.0
    assert moved >= critic
    errors = np.abs(agent.value(batch["obs"])[:, 0] - batch["returns"])
    assert errors.mean() == pytest.approx(metrics["value/mae"], rel=1e-5)


def test_backends_agree_and_load_each_others_state():
    first, second = (make(backend, **PICTURE) for backend in BACKENDS)
    assert fingerprint(first) == fingerprint(second)
    batch = make_batch(first)
    second.act(batch["obs"])
    metrics = [agent.update(batch) for agent in (first, second)]
    assert metrics[0]["policy/line_search_accepted"] == 1.0
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-3, abs=1e-4)
    for act in (lambda a: a.value(batch["obs"]), lambda a: a.act(batch["obs"])[2]):
        np.testing.assert_allclose(*map(act, (first, second)), rtol=1e-3, atol=1e-4)
    ours, theirs = first.get_state(), second.get_state()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], rtol=1e-3, atol=1e-4)
    second.set_state(ours)
    assert fingerprint(second) == fingerprint(first)
