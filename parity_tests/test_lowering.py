"""What of the GPU can be shown without one, and that an update is compiled once."""

import jax
import numpy as np
import pytest
import torch
from jax import export

from parity_tests import bridges, cases
from trpo.noise import minibatch_orders
from trpo.types import Batch
from trpo_jax import compiled


def arguments(dtype="float32"):
    """The compiled update's arguments, as an agent passes them."""
    problem = cases.build("trained")
    agent = bridges.make_agent("jax", problem, dtype)
    batch = Batch(*(problem.batch[name].astype(dtype) for name in Batch._fields))
    rng = np.random.default_rng(0)
    orders = minibatch_orders(rng, epochs=agent.config.value_epochs, size=33)
    return agent._functions, agent.config, agent.state, batch, orders


@pytest.fixture(scope="module")
def lowered():
    functions, config, state, batch, orders = arguments()
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        (state, batch, orders),
    )
    update = jax.jit(compiled.update, static_argnums=(0, 1))
    # Without the suite's own setting, what the backend itself asks for remains.
    with jax.default_matmul_precision("default"):
        return export.export(update, platforms=["cuda"])(functions, config, *shapes)


def test_the_update_lowers_for_cuda(lowered):
    assert lowered.platforms == ("cuda",)
    assert len(lowered.mlir_module()) > 10_000


def test_the_update_never_calls_the_host(lowered):
    text = lowered.mlir_module()
    for word in ("callback", "infeed", "outfeed", "send", "recv"):
        assert f"{word}" not in text.replace("sendto", ""), word


def test_products_ask_for_full_precision(lowered):
    products = [
        line
        for line in lowered.mlir_module().splitlines()
        if "stablehlo.dot_general" in line
    ]
    assert len(products) > 20
    matrices = [line for line in products if "precision = [HIGHEST, HIGHEST]" in line]
    assert len(matrices) == len(products)


def test_equal_shapes_are_compiled_once():
    functions, config, state, batch, orders = arguments()
    compiled.update(functions, config, state, batch, orders)
    before = compiled.update._cache_size()
    for factor in (0.5, 2.0):
        changed = batch._replace(advantages=batch.advantages * np.float32(factor))
        state, _ = compiled.update(functions, config, state, changed, orders)
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
    for leaf in jax.tree.leaves(agent.state):
        assert {d.platform for d in leaf.devices()} == {
            {"cuda": "gpu"}.get(device, device)
        }
    agent = bridges.make_agent("torch", problem, "float32", device)
    for parameter in (*agent.policy.parameters(), *agent.critic.parameters()):
        assert parameter.device.type == torch.device(device).type
