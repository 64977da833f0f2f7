"""Updates that JAX divides over devices are those of one, of every kind of agent."""

from tests.support.device_programs import assert_says_equal


SCRIPT = """
import sys
import jax, numpy as np
from tests.support.device_agents import KINDS, Kind, batch_of, make
from trpo_jax.policy_step import objective

kinds = {kind.name: kind for kind in KINDS}
kinds["thinned"] = Kind("thinned", {"fisher_every": 3, "entropy_coefficient": 0.1})
kinds["hessian of chunks"] = Kind(
    "hessian of chunks", {"batch_chunk_size": 9, "fisher_product": "kl_hessian"}
)
for line in sys.argv[1:]:
    name, *sizes = line.split(":")
    kind = kinds[name]
    alone = make(kind, "jax", "cpu", dtype="float64")
    batch = batch_of(alone, kind)
    expected, state = alone.update(batch), alone.get_state()
    for size in map(int, sizes):
        agent = make(kind, "jax", "cpu", dtype="float64")
        agent.shard(devices=jax.devices()[:size])
        report = agent.update(batch)
        for key, value in expected.items():
            close = dict(rtol=1e-9, atol=1e-12, err_msg=f"{name}, {size}: {key}")
            np.testing.assert_allclose(report[key], value, **close)
        for key, array in agent.get_state().items():
            if not key.startswith("random."):
                scale = np.abs(state[key]).max(initial=1e-3)
                assert np.abs(array - state[key]).max(initial=0) < 1e-9 * scale, key

# Sizes that are near share a program, and each is the update of one device.
from trpo_jax.devices.mesh import on_mesh
from trpo_jax.agent.update import update
kind = kinds["plain"]
alone, agent = (
    make(kind, "jax", "cpu", dtype="float64", value_minibatch_size=7) for _ in range(2)
)
agent.shard(devices=jax.devices()[:2])
compiled = on_mesh(update, agent.backend.mesh)
before = compiled._cache_size()
for rows in (33, 34, 35, 36):
    batch = {n: a[:rows] if np.ndim(a) else a for n, a in batch_of(alone, kind).items()}
    report, expected = agent.update(batch), alone.update(batch)
    for key, value in expected.items():
        np.testing.assert_allclose(report[key], value, rtol=1e-9, atol=1e-12)
assert compiled._cache_size() == before + 1

# A mean that counts what only fills up would be seen.
objective.mean = lambda values, weights=None: values.mean()
faulty, right = (
    make(kinds["plain"], "jax", "cpu", dtype="float64", cg_iters=3) for _ in range(2)
)
batch = batch_of(right, kinds["plain"])
faulty.shard(devices=jax.devices()[:3])
gap = faulty.update(batch)["policy/kl"] / right.update(batch)["policy/kl"] - 1.0
assert abs(gap) > 1e-6, gap
print("equal")
"""
# 40 samples and 4 environments: over 3 devices uneven.
CASES = ("chunks:2:3", "hessian of chunks:3", "thinned:3", "gru:2:3", "limit:3",
         "mixed:4")  # fmt: skip


def test_each_kind_is_divided_over_devices():
    assert_says_equal(SCRIPT, *CASES, JAX_NUM_CPU_DEVICES="4", JAX_ENABLE_X64="1")
