"""Ring A: in float64, two backends and a third implementation are one algorithm."""

import numpy as np
import pytest

from parity_tests import bridges
from parity_tests.problems import cases
from parity_tests.rings import evidence, rings


SEEDS = 3


def failures(rows):
    return [row for row in rows if not row.ok]


@pytest.mark.parametrize("name", evidence.test_cases())
def test_every_stage_is_identical_in_float64(name, device):
    for seed in evidence.seeds_of(cases.BY_NAME[name], SEEDS):
        rows = rings.ring_a(evidence.gather(name, seed, device))
        assert len(rows) >= 3 * 15
        assert not failures(rows)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_float32_results_are_float32(framework, device):
    found = evidence.gather("trained", 0, device).results[framework, "float32"]
    wrong = {n: a.dtype for n, a in found.values.items() if a.dtype != np.float32}
    assert not wrong


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_state_survives_the_other_backend_bit_for_bit(framework, dtype, device):
    other = {"torch": "jax", "jax": "torch"}[framework]
    problem = cases.build("trained", 0)
    agent = bridges.make_agent(framework, problem, dtype, device)
    agent.update({n: a.astype(dtype) for n, a in problem.batch.items()})
    state = agent.get_state()
    carrier = bridges.make_agent(other, problem, dtype, device)
    carrier.set_state(state)
    carried = carrier.get_state()
    assert list(carried) == list(state) or set(carried) == set(state)
    for name, array in state.items():
        assert carried[name].dtype == array.dtype
        assert carried[name].tobytes() == array.tobytes(), name


def test_only_a_measured_condition_number_excuses_an_error():
    rows = rings.ring_a(evidence.gather("stale", 0))
    excused = [row for row in rows if row.value > 1e-10]
    assert all("condition number" in row.note for row in excused)
    assert all(row.value < 1e-8 for row in rows)


@pytest.mark.parametrize("name", ["trained", "humanoid"])
def test_devices_agree_with_each_other(name, device):
    # On a machine without a GPU this compares the backends on one device.
    here, there = evidence.gather(name, 0, "cpu"), evidence.gather(name, 0, device)
    rows = rings.ring_a_across(here, there, places=("cpu", device))
    assert len(rows) >= 4 * 40
    assert not failures(rows)


def test_one_device_s_error_is_seen_across_devices():
    here = evidence.gather("trained", 0)
    key = ("jax", "float64")
    found = here.results[key]
    values = {**found.values, "gradient": found.values["gradient"] * (1 + 1e-9)}
    there = here._replace(results={**here.results, key: found._replace(values=values)})
    rows = rings.ring_a_across(here, there, places=("cpu", "cuda"))
    assert {(row.quantity, row.subject) for row in failures(rows)} == {
        ("gradient", "torch-cpu to jax-cuda"),
        ("gradient", "jax-cpu to jax-cuda"),
    }
