"""Cells run in processes of their own, resume, and end in a report."""

import json

import numpy as np
import pytest

from benchmarks import pages
from benchmarks.speed import runner
from benchmarks.speed.cell import Cell, update_cells
from benchmarks.speed.measures import update as update_cell
from benchmarks.speed.problems import Size
from benchmarks.speed.report import __main__ as report
from benchmarks.speed.report.targets import all_targets
from benchmarks.speed.store import Store, store_path
from tests.support.short_runs import run_benchmark


TINY = Size("HalfCheetah", 512, 17, 6, (16, 16))
SETTINGS = {"threads": 1, "seconds": 0.05}
ABOUT = {"fingerprint": {"cores": 1}, "settings": SETTINGS}


def tiny_cell(subject, **changes):
    return Cell(kind="update", subject=subject, size=TINY, **changes)


def result_of(seconds):
    return {
        "first_seconds": 1.0, "cold": True, "seconds": [seconds] * 3,
        "seconds_one_epoch": [seconds / 2] * 3, "peak_bytes": 1,
        "device_peak_bytes": None, "launches": None,
        "work": {"cg_iterations": 10.0, "candidates": 1.0, "accepted": 1.0},
    }  # fmt: skip


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_cell_is_measured_in_its_own_process(backend, tmp_path):
    result = runner.measure(tiny_cell(backend), SETTINGS, tmp_path)
    assert "fails" not in result
    assert result["work"] == {"cg_iterations": 10, "candidates": 1, "accepted": 1}
    assert len(result["seconds"]) == len(result["seconds_one_epoch"]) >= 3
    whole, policy, critic = update_cell.split(result)
    assert whole == pytest.approx(policy + critic)
    # Float32's error is rounding error, and it is one: the truth is another run's.
    assert 1e-8 < result["error_policy"] < 1e-3
    assert 1e-8 < result["error_value"] < 1e-3
    assert result["peak_bytes"] > 0
    assert result["cold"]


def test_missing_peers_and_pointless_rows_say_so():
    rows = {
        "torch-cudagraphs": "need a GPU",
        "jax": "no effect",
    }
    for subject, reason in rows.items():
        result = update_cell.measure_update(
            tiny_cell(subject, precision="tf32"), SETTINGS
        )
        assert reason in result["skipped"]


def test_other_work_is_refused():
    subject = update_cell.make_subject(
        tiny_cell("torch"), update_cell.make_problem(TINY)
    )
    subject.agent.config.__dict__["cg_iters"] = 3
    subject.reset()
    subject.update()
    with pytest.raises(RuntimeError, match="expected the fixed work"):
        update_cell._require_same_work(subject.work())


def test_a_run_resumes_and_refuses_to_mix(tmp_path, monkeypatch):
    measured = []

    def measure(cell, settings, folder):
        measured.append(cell)
        return {"fails": "on purpose"} if cell.subject == "jax" else result_of(0.1)

    monkeypatch.setattr(runner, "measure", measure)
    cells = [tiny_cell("torch"), tiny_cell("jax")]
    path = store_path(tmp_path, "update", "cpu")
    runner.run(cells, 2, Store(path, ABOUT), SETTINGS)
    # What fails is not tried again.
    assert len(measured) == 3
    runner.run(cells, 3, Store(path, ABOUT), SETTINGS)
    assert measured[3:] == [tiny_cell("torch")]
    store = Store(path, ABOUT)
    assert len(store.good(tiny_cell("torch"))) == 3
    assert store.why_not(tiny_cell("jax")) == "fails: on purpose"

    other = {**ABOUT, "settings": {"threads": 2, "seconds": 0.05}}
    with pytest.raises(ValueError, match="differ in settings"):
        Store(path, other)
    assert not Store(path, other, fresh=True).samples


def test_report_is_written_from_samples_alone(tmp_path, monkeypatch):
    store = Store(store_path(tmp_path, "update", "cpu"), ABOUT)
    speeds = {"jax": 0.1, "torch": 0.2, "sb3-contrib": 0.4}
    for number in range(4):
        for cell in update_cells([TINY], "cpu", ("torch", "jax"), peers=True):
            if cell.kind == "machine":
                peaks = {"torch_flops": 1e11, "jax_flops": 9e10, "bandwidth": 1e10}
                store.add(cell, number, peaks)
            elif cell.subject in speeds and cell.precision == "float32":
                wobble = 1.0 + 0.01 * number
                store.add(cell, number, result_of(speeds[cell.subject] * wobble))
            elif number == 0:
                store.add(cell, number, {"skipped": "not installed: tianshou"})
    line = "python -m benchmarks.speed.report"
    assert not run_benchmark(line, f"--out {tmp_path}", monkeypatch)
    page = (tmp_path / "throughput.md").read_text()
    assert "| JAX, jit | 5,044 | 101.5 ± 0.8" in page
    assert "sb3-contrib TRPO: takes 4.00x JAX, jit's time (95 %: 4.00 to 4.00)" in page
    assert "| Tianshou TRPO | not installed: tianshou |" in page
    assert "GPU: not run" in page
    for name in ("throughput", "roofline", "split"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


def test_targets_without_samples_are_not_run(tmp_path):
    targets = all_targets(report.open_stores(tmp_path, "cpu"))
    assert len(targets) == 35
    assert {target.measured for target in targets} == {"not run"}
    assert {target.met for target in targets} == {None}


def test_marked_part_is_replaced_and_the_rest_kept():
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb"
    new = pages.replace_between(text, "x", "new")
    assert new == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb"
    assert pages.replace_between(new, "x", "new") == new
    with pytest.raises(ValueError, match="y:begin"):
        pages.replace_between(text, "y", "new")


def test_cells_survive_json():
    for cell in update_cells([TINY], "cpu", ("torch", "jax"), peers=True):
        assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell
    assert np.unique([str(cell) for cell in update_cells([TINY], "cpu", (), peers=True)]
                     ).size == 5  # fmt: skip
