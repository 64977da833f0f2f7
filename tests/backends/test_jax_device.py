"""JAX's agents on another device than the default one: two CPU devices, one process."""

import pytest

from tests.support.device_programs import assert_says_equal


# Each in a process of its own, as JAX counts devices once.
AGENTS = """
import jax, numpy as np
from tests.support.agents import fingerprint
from tests.support.device_agents import KINDS, batch_of, make, observations
from trpo_jax.agent.agent import TRPOBackend

first, second = jax.devices()
# Between devices nothing moves but by `device_put`, which says where to.
jax.config.update("jax_transfer_guard_device_to_device", "disallow")
where = lambda tree: {d for leaf in jax.tree.leaves(tree)
                      if isinstance(leaf, jax.Array) for d in leaf.devices()}
made, put = set(), TRPOBackend._put

def watched(self, tree):
    made.update(where(tree))
    return put(self, tree)

for name in ("normalized", "lstm", "limit"):
    kind = next(kind for kind in KINDS if kind.name == name)
    TRPOBackend._put = watched
    agent = make(kind, "jax", "cpu:1")
    agent.set_state(agent.get_state())
    # Nothing is made on the default device first.
    assert made == {second}, made
    TRPOBackend._put = put
    plain = make(kind, "jax", "cpu")
    obs = observations(agent, 6)
    for given in (obs, *(jax.device_put(obs, device) for device in (first, second))):
        found = [agent.act(given), agent.value(given)]
        if name == "limit":
            found.append(agent.cost_value(given))
        plain.act(obs)
        wanted = set() if given is obs else {second}
        assert where(found) == wanted, where(found)
    batch = batch_of(agent, kind)
    batch_of(plain, kind)
    there = {name: jax.device_put(array, first) if isinstance(array, np.ndarray)
             else array for name, array in batch.items()}
    for given in (batch, there):
        assert agent.update(given) == plain.update(batch)
    assert fingerprint(agent) == fingerprint(plain)
    assert where(agent.backend.state) == {second}
print("equal")
"""
RUNS = """
import jax
from tests.support.agents import make_agent, make_batch
from tests.compiled.test_compiled_command import small
from trpo_jax.loop.trainer import CompiledTrainer

first, second = jax.devices()
where = lambda tree: {d for leaf in jax.tree.leaves(tree) for d in leaf.devices()}
# Sharded over both, an agent stays where it was.
agent = make_agent("jax", device="cpu:1")
agent.shard(devices=[first, second])
agent.update(make_batch(agent))
assert where(agent.backend.state) == {second}
agent.act(jax.device_put(make_batch(agent)["obs"], first))
# Of "cpu" a compiled run takes all; of "cpu:1" that one.
for members in (1, 2):
    of = lambda device: CompiledTrainer(
        [small(seed=seed, device=device) for seed in range(members)],
        longest_chunk=1, episodes=2)
    assert of("cpu").program.mesh.size == 2
    trainer = of("cpu:1")
    assert where(trainer._state) == {second}
trainer.advance(1)
trainer.set_state(*(trainer.get_state(index) for index in range(members)))
assert where(trainer._state) == {second}
print("equal")
"""


@pytest.mark.parametrize("script", [AGENTS, RUNS], ids=["agents", "runs"])
def test_an_agent_stays_on_the_device_that_it_was_given(script):
    assert_says_equal(script, JAX_NUM_CPU_DEVICES="2")
