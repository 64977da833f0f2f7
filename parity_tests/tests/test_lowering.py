"""Lowering for a GPU, shown without one; an update is compiled once."""

import jax
import numpy as np
import pytest
import torch

from parity_tests import bridges
from parity_tests.problems import cases
from parity_tests.rings.lowering import arguments, check_full_precision, lower_for_cuda
from trpo_jax.agent import update as compiled


@pytest.fixture(scope="module")
def lowered():
    return lower_for_cuda()


def test_the_update_lowers_for_cuda(lowered):
    assert lowered.platforms == ("cuda",)
    assert len(lowered.mlir_module()) > 10_000


def test_the_update_never_calls_the_host(lowered):
    text = lowered.mlir_module()
    for word in ("callback", "infeed", "outfeed", "send", "recv"):
        assert f"{word}" not in text.replace("sendto", ""), word


def test_products_ask_for_full_precision():
    check_full_precision()


def test_equal_shapes_are_compiled_once():
    functions, options, state, batch, orders, numbers = arguments()
    compiled.update(functions, options, state, batch, orders, numbers)
    before = compiled.update._cache_size()
    for factor in (0.5, 2.0):
        changed = batch._replace(advantages=batch.advantages * np.float32(factor))
        numbers = type(numbers)(*(number * np.float32(factor) for number in numbers))
        state, _ = compiled.update(functions, options, state, changed, orders, numbers)
    agent = bridges.make_agent("jax", cases.build("trained"), "float32")
    agent.update(
        {n: a.astype("float32") for n, a in cases.build("trained").batch.items()}
    )
    agent.update(
        {n: a.astype("float32") for n, a in cases.build("trained").batch.items()}
    )
    # An agent commits its arrays to its device: one more entry, not one a call.
    assert compiled.update._cache_size() <= before + 1


def test_arrays_live_on_the_device_that_was_asked_for(device):
    problem = cases.build("trained")
    agent = bridges.make_agent("jax", problem, "float32", device)
    for leaf in jax.tree.leaves(agent.backend.state):
        assert {d.platform for d in leaf.devices()} == {
            {"cuda": "gpu"}.get(device, device)
        }
    agent = bridges.make_agent("torch", problem, "float32", device)
    for parameter in (*agent.policy.parameters(), *agent.critic.parameters()):
        assert parameter.device.type == torch.device(device).type
