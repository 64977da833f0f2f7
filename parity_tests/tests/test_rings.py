"""The four rings of proof.

A, identity: in float64, two backends and a third implementation are one algorithm.
B, precision: each backend's float32 error is what float32 rounding predicts.
C, fairness: neither backend's float32 is worse by more than a factor of four.
D, decisions: the same, but for ties that float64 can show to be ties.
"""

import numpy as np
import pytest

from parity_kit.rings import ties
from parity_kit.tolerances import FAIRNESS, UNSTABLE, VACUOUS
from parity_tests import bridges
from parity_tests.problems import cases
from parity_tests.reference import all_stages, networks as reference
from parity_tests.rings import evidence, rings


SEEDS = 3


def failures(rows):
    return [row for row in rows if not row.ok]


@pytest.mark.parametrize("name", evidence.test_cases())
def test_every_stage_is_identical_in_float64(name, device):
    for seed in evidence.seeds_of(cases.BY_NAME[name], SEEDS):
        rows = rings.identity(evidence.gather(name, seed, device))
        assert len(rows) >= 3 * 15
        assert not failures(rows)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_float32_results_are_float32(framework, device):
    stages = evidence.gather("trained", 0, device).results[framework, "float32"]
    wrong = {n: a.dtype for n, a in stages.values.items() if a.dtype != np.float32}
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
    rows = rings.identity(evidence.gather("stale", 0))
    excused = [row for row in rows if row.value > 1e-10]
    assert all("condition number" in row.note for row in excused)
    assert all(row.value < 1e-8 for row in rows)


@pytest.mark.parametrize("name", ["trained", "humanoid"])
def test_devices_agree_with_each_other(name, device):
    # On a machine without a GPU this compares the backends on one device.
    on_cpu, on_device = (
        evidence.gather(name, 0, "cpu"),
        evidence.gather(name, 0, device),
    )
    rows = rings.identity_across(on_cpu, on_device, devices=("cpu", device))
    assert len(rows) >= 4 * 40
    assert not failures(rows)


def test_one_device_s_error_is_seen_across_devices():
    on_cpu = evidence.gather("trained", 0)
    key = ("jax", "float64")
    stages = on_cpu.results[key]
    values = {**stages.values, "gradient": stages.values["gradient"] * (1 + 1e-9)}
    on_cuda = on_cpu._replace(
        results={**on_cpu.results, key: stages._replace(values=values)}
    )
    rows = rings.identity_across(on_cpu, on_cuda, devices=("cpu", "cuda"))
    assert {(row.quantity, row.subject) for row in failures(rows)} == {
        ("gradient", "torch-cpu to jax-cuda"),
        ("gradient", "jax-cpu to jax-cuda"),
    }


@pytest.fixture(scope="module")
def precision_rows():
    return rings.precision(evidence.gather_all(evidence.test_cases(), SEEDS))


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_no_case_has_an_unstable_formula(precision_rows, framework):
    rows = [
        row for row in precision_rows if row.subject == framework and row.case != "all"
    ]
    assert len(rows) > 500
    assert not [row for row in rows if not row.ok]
    assert max(row.value for row in rows) <= UNSTABLE


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_no_quantity_s_test_is_vacuous(precision_rows, framework):
    rows = [
        row for row in precision_rows if row.subject == framework and row.case == "all"
    ]
    assert not [row for row in rows if not row.ok]
    assert min(row.value for row in rows) >= VACUOUS


def test_noise_of_twice_the_size_makes_twice_the_spread():
    problem, teacher = cases.build("trained", 0), bridges.teacher_of("trained", 0)
    exact = all_stages.run(problem, teacher)
    spreads = []
    for unit in (2.0**-30, 2.0**-29):
        noise = reference.rounding_noise(0, unit)
        run = all_stages.run(problem, teacher, noise, exact.decisions)
        spreads.append(abs(run.values["gradient"] - exact.values["gradient"]).sum())
    assert spreads[1] == pytest.approx(2.0 * spreads[0], rel=1e-5)


@pytest.fixture(scope="module")
def fairness_rows():
    return rings.fairness(evidence.gather_all(evidence.test_cases(), SEEDS))


def test_every_quantity_is_as_accurate_in_both_backends(fairness_rows):
    assert len(fairness_rows) >= 35
    unfair = [row for row in fairness_rows if not row.ok]
    assert not unfair
    assert all(FAIRNESS[0] <= row.value <= FAIRNESS[1] for row in fairness_rows)


@pytest.mark.parametrize("name", evidence.test_cases())
def test_decisions_are_equal_or_too_close_to_call(name, device):
    if not cases.BY_NAME[name].updates:
        assert not evidence.gather(name, 0, device).reference.decisions
        return
    for seed in evidence.seeds_of(cases.BY_NAME[name], SEEDS):
        rows = rings.decisions(evidence.gather(name, seed, device))
        assert len(rows) >= 4 * 6
        assert not [row for row in rows if not row.ok]


def test_ties_are_rare():
    gathered = evidence.gather_all(evidence.test_cases(), SEEDS)
    rows = [row for item in gathered for row in rings.decisions(item)]
    count, total, few = ties(rows)
    assert few, f"{count} ties in {total} decisions"


def test_the_grid_takes_every_kind_of_decision():
    gathered = evidence.gather_all(evidence.test_cases(), 1)
    statuses = {item.reference.decisions.get("update/status") for item in gathered}
    indices = {item.reference.decisions.get("update/index") for item in gathered}
    assert {0, 1, 4} <= statuses
    assert {-1, 0, 1} <= indices
