"""Lock-step training: the rings hold at every update of a real run."""

import itertools

import numpy as np
import pytest

from parity_kit.rings import ties
from parity_tests.rings import shadow_training as shadow


@pytest.fixture(scope="module", params=["Pendulum-v1", "HalfCheetah-v5", "CartPole-v1"])
def trained(request):
    return shadow.run(request.param, 10)


def test_ten_updates_keep_to_the_bounds_of_every_ring(trained):
    rows = shadow.judge(trained)
    assert len(rows) > 10 * 80
    assert not [row for row in rows if not row.ok]
    assert ties(rows)[2]
    history = shadow.history(trained)
    assert len(history) == 10
    # Real updates, not refusals that agree; and one after another.
    assert all(update.kl > 1e-4 for update in history)
    assert max(update.step_64 for update in history) <= 1e-10
    policies = [item.reference.values["update/policy"] for item in trained]
    assert all(np.any(a != b) for a, b in itertools.pairwise(policies))


@pytest.mark.parametrize(
    ("key", "factor", "ring"),
    [(("jax", "float64"), 1e-8, "A"), (("torch", "float32"), 1e-3, "B")],
)
def test_an_error_in_one_update_is_seen(trained, key, factor, ring):
    item = trained[4]
    stages = item.results[key]
    policy = stages.values["update/policy"]
    values = {
        **stages.values,
        "update/policy": policy * (1 + policy.dtype.type(factor)),
    }
    wrong = item._replace(results={**item.results, key: stages._replace(values=values)})
    rows = shadow.judge([*trained[:4], wrong, *trained[5:]])
    bad = {(row.ring, row.quantity) for row in rows if not row.ok}
    assert bad == {(ring, "update/policy")}
