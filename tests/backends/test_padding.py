"""JAX fills batches up to sizes of a ladder; what fills up changes no number."""

import numpy as np
import pytest

from tests.support.agents import BACKENDS, make_agent, make_batch
from tests.support.device_agents import Kind, batch_of, make
from tests.support.device_programs import assert_says_equal
from trpo_jax.agent.update import update
from trpo_jax.devices.means import on_ladder


def test_the_ladder_has_an_eighth_more_at_most_and_few_sizes():
    sizes = np.arange(1, 20_000)
    rungs = np.array([on_ladder(int(size)) for size in sizes])
    assert (rungs >= sizes).all()
    assert (rungs <= 1.125 * sizes).all()
    assert len(set(rungs[sizes >= 1000])) < 50
    for usual in (1, 7, 16, 40, 1000, 2000, 2048, 3072, 4096, 5000, 8192, 20_480):
        assert on_ladder(usual) == usual
    assert [on_ladder(odd) for odd in (33, 2047, 2049, 8191)] == [36, 2048, 2304, 8192]


SCRIPT = """
import sys
import numpy as np
from unittest import mock
from tests.support.device_agents import KINDS, batch_of, make
from trpo_jax.agent import agent as module
from trpo_jax.devices import means

kinds = {kind.name: kind for kind in KINDS}

def updated(kind, rows, padded, **options):
    agent = make(kind, "jax", "cpu", dtype="float64", **options)
    reports = []
    with mock.patch.object(module, "padded", padded):
        for seed in range(2):
            batch = batch_of(agent, kind, seed)
            if "recurrent" not in kind.options:
                batch = {n: a[:rows] if np.ndim(a) else a for n, a in batch.items()}
            reports.append(agent.update(batch))
    return reports, agent.get_state()

def as_they_are(batch, orders):
    return batch, orders

def filled(batch, orders):
    more, longer = means.padded(batch, orders)
    assert len(more.actions) > len(batch.actions)
    return more, longer

def faulty(batch, orders):
    more, longer = filled(batch, orders)
    return more._replace(weights=np.ones_like(more.weights)), longer

for line in sys.argv[1:]:
    name, rows, minibatch = line.split(":")
    case = (kinds[name], int(rows))
    options = {"value_minibatch_size": int(minibatch)}
    ours, state = updated(*case, filled, **options)
    theirs, right = updated(*case, as_they_are, **options)
    for padded, whole in zip(ours, theirs, strict=True):
        for key, value in whole.items():
            close = dict(rtol=1e-10, atol=1e-12, err_msg=f"{line}: {key}")
            np.testing.assert_allclose(padded[key], value, **close)
        for key in ("policy/status", "cg/iterations", "policy/line_search_frac"):
            assert padded[key] == whole[key], (line, key)
    for key, array in right.items():
        scale = np.abs(array).max(initial=1e-3)
        assert np.abs(state[key] - array).max(initial=0) <= 1e-11 * scale, (line, key)
    step = "value_optimizer.step"
    assert np.array_equal(state.get(step), right.get(step)), line

# Were what fills up counted, it would be seen: in each mean, and as steps.
found, _ = updated(kinds["plain"], 33, faulty, value_minibatch_size=2)
assert abs(found[0]["policy/kl"] / theirs[0]["policy/kl"] - 1.0) > 1e-4
print("equal")
"""
# The last one is compared with the fault. Minibatches of 34 end among what fills up.
CASES = ("limit:37:16", "gru:39:10", "chunks:35:34", "normalized:39:0", "plain:33:2")


def test_each_kind_is_filled_up_without_a_difference():
    assert_says_equal(SCRIPT, *CASES, JAX_ENABLE_X64="1")


def test_sizes_that_are_near_share_a_program():
    agent = make_agent("jax", policy_layer_sizes=(4, 3))
    before = update._cache_size()
    for size in (33, 34, 35):
        agent.update(make_batch(agent, size))
    assert update._cache_size() == before + 1
    agent.update(make_batch(agent, 36))  # On the ladder: no weights.
    assert update._cache_size() == before + 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_environment_without_a_sample_makes_no_step(backend):
    kind = Kind("gru", {"recurrent": "gru", "recurrent_size": 3})
    agent = make(kind, backend, "cpu", value_minibatch_size=10)
    batch = batch_of(agent, kind)
    batch["valid"][:, 1] = False
    metrics = agent.update(batch)
    # Two epochs of the three others.
    assert agent.get_state()["value_optimizer.step"] == 6
    assert np.isfinite(metrics["loss/value"])
