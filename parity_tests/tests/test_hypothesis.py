"""Hypothesis over the grid's space; shapes are few, so that JAX compiles little."""

import hypothesis
import numpy as np
from hypothesis import strategies as st

from parity_tests import bridges
from parity_tests.common.canonical import round32
from parity_tests.problems import cases
from parity_tests.reference import all_stages
from parity_tests.reference.update import teach
from parity_tests.rings import rings
from parity_tests.rings.evidence import Evidence


SETTINGS = hypothesis.settings(
    max_examples=25, deadline=None, derandomize=True, database=None
)


@st.composite
def problems(draw):
    """The plain case's shapes with other weights, samples and scales."""
    base = cases.build("trained", draw(st.integers(0, 50)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 10.0 ** draw(st.floats(-6, 6))
    weight = draw(st.floats(0.01, 3.0))
    state = dict(base.state)
    for name in state:
        if name.startswith(("policy.layers", "value.layers")):
            state[name] = round32(weight * state[name])
    log_std = draw(st.lists(st.floats(-2.0, 2.5), min_size=3, max_size=3))
    state["policy.log_std"] = round32(np.array(log_std))
    batch = dict(base.batch)
    batch["obs"] = round32(draw(st.floats(0.0, 3.0)) * batch["obs"])
    batch["advantages"] = round32(scale * batch["advantages"])
    batch["log_probs"] = round32(
        batch["log_probs"] + draw(st.floats(0, 1)) * rng.standard_normal((33, 1))
    )
    return base._replace(state=state, batch=batch)


@SETTINGS
@hypothesis.given(problems())
def test_ring_a_holds_all_over_the_space(problem):
    # The ratio may overflow where the policy has moved far from its own samples.
    with np.errstate(over="ignore", invalid="ignore"):
        teacher = teach(problem)
        exact = all_stages.run(problem, teacher)
    hypothesis.assume(all(np.isfinite(a).all() for a in exact.values.values()))
    results = {
        (name, "float64"): bridges.run(name, problem, teacher, "float64")
        for name in ("torch", "jax")
    }
    item = Evidence(
        "trained", problem.seed, exact, (), results, problem.config,
        lambda noise, decisions: all_stages.run(problem, teacher, noise, decisions),
    )  # fmt: skip
    bad = [row for row in rings.identity(item) if not row.ok]
    assert not bad
    decisions = [stages.decisions for stages in results.values()]
    assert decisions[0] == decisions[1] == exact.decisions
