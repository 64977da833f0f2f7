"""What is to be measured on a device is measured there, and its peaks are its own."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks.learning.compiled import __main__ as compiled_training
from benchmarks.learning.training import __main__ as training_study
from benchmarks.speed import timing
from benchmarks.speed.cell import Cell
from benchmarks.speed.measures import compiled as compiled_cell


def test_the_compiled_loop_is_timed_on_the_device_that_was_asked_for():
    arguments = compiled_training.Arguments(device="cuda:1", speed=True, peers=True)
    cells = compiled_training.speed_cells(arguments)
    assert {cell.subject for cell in cells} >= {"compiled", "compiled-16", "jax"}
    assert {cell.device for cell in cells} == {"cuda:1"}
    # A cell's process asks for it too, and says that there is none here.
    with pytest.raises(ValueError, match="got 'cuda:1'"):
        compiled_cell.measure_compiled(cells[0], {"seconds": 0.0})


def test_many_environments_take_some_steps_each():
    cell = Cell(kind="compiled", env_id="phys2d/Pendulum-v0", num_envs=2_048)
    config = compiled_cell.training_config(cell.env_id, cell.num_envs)
    assert config.rollout_steps == 4
    assert compiled_cell.training_config(cell.env_id, 8).rollout_steps == 256


def test_a_study_trains_on_the_device_that_was_asked_for():
    arguments = training_study.Arguments(
        envs=("Pendulum-v1",), seeds=(0,), device="cuda"
    )
    (spec,) = training_study.planned(arguments)
    assert spec.config.device == "cuda"


def test_peak_memory_is_of_the_device_and_not_of_the_first(monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "max_memory_allocated", lambda device=0: asked.append(device) or 7
    )
    assert timing.device_peak_bytes("torch", "cuda:1") == 7
    assert asked == ["cuda:1"]
    assert timing.device_peak_bytes("torch", "cpu") is None


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells it on Linux")
def test_peak_memory_of_a_program_is_not_that_of_its_parent():
    held = np.ones(2**26)  # 512 MiB
    code = "from benchmarks.speed.timing import peak_bytes; print(peak_bytes())"
    printed = subprocess.check_output([sys.executable, "-c", code])
    assert timing.peak_bytes() > held.nbytes > 4 * int(printed)
