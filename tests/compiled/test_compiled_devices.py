"""Compiled runs on two devices: in their own processes, as JAX counts devices once."""

import pytest

from tests.support.device_programs import assert_says_equal


SCRIPT = """
import jax, numpy as np
from trpo_jax.loop.trainer import CompiledTrainer
from tests.compiled.test_compiled_command import small

configs = [small(seed=seed) for seed in range(4)]
def trained(configs):
    trainer = CompiledTrainer(configs, longest_chunk=2, episodes=2)
    trainer.advance(2)
    return trainer, trainer.evaluate(2)
together, many = trained(configs)
assert together.program.mesh.size == 2, together.program.mesh
for index in (0, 3):
    alone, one = trained([configs[index]])
    assert alone.program.mesh.axis_names == ("parts",)
    left, right = alone.get_state(), together.get_state(index)
    assert set(left) == set(right)
    for name, array in left.items():
        np.testing.assert_allclose(
            array, right[name], rtol=1e-4, atol=1e-5, err_msg=name
        )
    np.testing.assert_allclose(
        one[0].returns, many[index].returns, rtol=1e-4
    )
# Three members don't divide by two devices.
three = CompiledTrainer(configs[:3], longest_chunk=2, episodes=2)
assert three.program.mesh is None
print("equal")
"""


DIVIDED = """
import dataclasses, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, PartitionSpec as P
from trpo_jax.agent.update import in_turn
from trpo_jax.loop import program, two_devices
from trpo_jax.loop.trainer import CompiledTrainer
from tests.compiled.test_compiled_command import small

def trained(limit, **changes):
    program.SAMPLES_IN_PARTS = limit
    config = small(seed=3)
    config = dataclasses.replace(
        config, agent=dataclasses.replace(config.agent, dtype="float64", **changes)
    )
    trainer = CompiledTrainer([config], longest_chunk=3, episodes=2)
    assert (trainer.program.mesh is None) == (limit == 0)
    return trainer.get_state, trainer.advance(3)[0], trainer.evaluate(2)[0]

for changes in ({}, {"share_encoder": True}, {"optimizer_type": "sgd"}):
    states, chunks, played = [], [], []
    for limit in (0, 2**13):
        get_state, chunk, result = trained(limit, **changes)
        states.append(get_state())
        chunks.append(chunk)
        played.append(result.returns)
    # XLA fuses what is divided in another way, which rounds in another way.
    close = dict(rtol=1e-9, atol=1e-11)
    for name, array in states[0].items():
        assert array.dtype == states[1][name].dtype
        np.testing.assert_allclose(states[1][name], array, err_msg=name, **close)
    rows = [[p.metrics for p in chunk] for chunk in chunks]
    for left, right in zip(*rows, strict=True):
        for name in (n for n in left if not n.startswith("time/")):
            np.testing.assert_allclose(right[name], left[name], err_msg=name, **close)
    np.testing.assert_allclose(*played, **close)

def first():
    return jnp.array([-0.0, jnp.nan, 1e-45]), jnp.array([True, False])

def second():
    return {"count": jnp.int32(-7), "rest": jnp.array([[-0.0, jnp.inf]])}

def divided():
    return two_devices.on_two_devices("two", first, second)

mesh = Mesh(jax.devices()[:2], ("two",))
run = jax.shard_map(divided, mesh=mesh, in_specs=(), out_specs=P(), check_vma=False)
got, wanted = (jax.tree.leaves(f()) for f in (jax.jit(run), jax.jit(
    lambda: in_turn(first, second))))
for left, right in zip(got, wanted, strict=True):
    assert left.dtype == right.dtype
    assert np.asarray(left).tobytes() == np.asarray(right).tobytes()
# Wider networks, of which XLA divides the products themselves.
assert program.parts_mesh(
    jax.devices()[0], dataclasses.replace(small().agent, critic_layer_sizes=(65,)), 2
) is None
print("equal")
"""


@pytest.mark.parametrize(
    ("script", "wide"),
    [(SCRIPT, {}), (DIVIDED, {"JAX_ENABLE_X64": "1"})],
    ids=["members", "one divided"],
)
def test_on_two_devices_all_is_as_on_one(script, wide):
    assert_says_equal(script, JAX_NUM_CPU_DEVICES="2", **wide)
