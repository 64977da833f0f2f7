"""The original agent's recorded cases, which each backend has to reproduce."""

import functools
import math

import numpy as np

from parity_tests import bridges
from parity_tests.bridges.probe import Probe, make_agent
from parity_tests.common.canonical import flatten
from parity_tests.common.tolerances import assert_parity
from parity_tests.problems import golden


@functools.cache
def first_update(framework: str, name: str) -> tuple[Probe, dict[str, np.ndarray]]:
    """The backend at a case's first update, and what was recorded of it."""
    case = golden.load(name)
    update = case.updates[0]
    return Probe(framework, case, update.before, update.batch), update.recorded


def check_stages(framework: str, name: str) -> None:
    """Forward pass, gradient, Fisher product and KL of the first update."""
    probe, recorded = first_update(framework, name)
    for quantity, got in probe.forward().items():
        want = recorded[quantity]
        # The original expands log_std to a row for each sample.
        assert_parity("golden/forward", np.broadcast_to(got, want.shape), want)
    assert_parity("golden/gradient", probe.gradient(), recorded["gradient"])
    # The original's epsilon in KL is reproduced, which is why the bounds are tight.
    vector, delta = recorded["probe"], recorded["nearby_delta"]
    excess = probe.original.fisher_excess(vector).astype(vector.dtype)
    got = probe.fisher(vector) + excess
    assert_parity("golden/fisher", got, recorded["fisher_probe"])
    got = probe.nearby_kl(delta) + probe.original.kl_excess(delta).astype(delta.dtype)
    exact = probe.original.kl(delta).astype(delta.dtype)
    assert_parity("golden/kl", got, exact)
    # What was recorded in float32 has lost digits that ours has: the same loss here.
    assert_parity("golden/recorded_kl", probe.recorded_kl(delta), recorded["nearby_kl"])


def check_updates(framework: str, name: str) -> None:
    """Every recorded update, each from the recorded weights before it."""
    case = golden.load(name)
    agent = make_agent(bridges.side(framework).TRPOAgent, case)
    weights = case.updates[0].before
    for update in case.updates:
        # With the agent's own optimiser: differences don't add up, but a wrong moment
        # shows.
        agent.set_state({**agent.get_state(), **weights})
        metrics = agent.update(update.batch)
        state = agent.get_state()
        before, want = (flatten(w, "policy.") for w in (weights, update.after))
        got = flatten(state, "policy.")
        assert_parity("golden/step", got - before, want - before)
        got, want = flatten(state, "value."), flatten(update.after, "value.")
        assert_parity("golden/critic", got, want)
        for metric in ("policy/line_search_frac", "policy/line_search_accepted"):
            assert math.isclose(metrics[metric], update.metrics[metric], rel_tol=1e-6)
        weights = update.after


def check_cg(framework: str, name: str) -> None:
    """The original's CG, epsilons and all, on this backend's Fisher products."""
    probe, recorded = first_update(framework, name)
    if "cg_solution" in recorded:
        got = probe.original_cg(recorded["gradient"])
        assert_parity("golden/cg", got, recorded["cg_solution"])
