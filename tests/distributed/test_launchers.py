"""Processes that a launcher has started: where they meet, and that they do."""

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests.support.agents import BACKENDS
from tests.support.waiting import PATIENCE
from trpo.launchers import LAUNCHERS, free_port, local_rank
from trpo.rendezvous import Rendezvous
from trpo.runs.directory import RunDirectory
from trpo.training.trainer import Trainer


TORCHRUN, OPEN_MPI, MPICH, SLURM = LAUNCHERS
BIN = Path(sys.executable).parent
STEPS = 192
TRAIN = (
    "train", "Pendulum-v1", "--distributed", "--num-envs", "3", "--rollout-steps",
    "32", "--total-steps", str(STEPS), "--eval-episodes", "0", "--policy-layer-sizes",
    "5", "--critic-layer-sizes", "4", "--value-epochs", "2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def unlaunched(monkeypatch):
    for launcher in LAUNCHERS:
        for name in launcher[:4]:
            monkeypatch.delenv(name or "NONE", raising=False)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def launched_by(monkeypatch, launcher, rank, size, local=(0, 2)):
    for name, value in zip(launcher[:4], (rank, size, *local), strict=True):
        if name:
            monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda one: one.rank)
def test_with_an_address_any_launcher_will_do(monkeypatch, launcher):
    launched_by(monkeypatch, launcher, 1, 3, (1, 2))
    monkeypatch.setenv("MASTER_ADDR", "a")
    monkeypatch.setenv("MASTER_PORT", "5")
    assert Rendezvous.of_environment() == Rendezvous("a", 5, 1, 3)
    assert local_rank() == 1


def test_the_only_process_of_a_machine_has_all_its_gpus(monkeypatch):
    assert local_rank() is None
    launched_by(monkeypatch, OPEN_MPI, 1, 3, (0, 1))
    assert local_rank() is None


def test_who_starts_others_inside_a_job_of_slurm_counts(monkeypatch):
    launched_by(monkeypatch, SLURM, 0, 1)
    launched_by(monkeypatch, TORCHRUN, 1, 2)
    monkeypatch.setenv("MASTER_ADDR", "a")
    monkeypatch.setenv("MASTER_PORT", "5")
    assert Rendezvous.of_environment() == Rendezvous("a", 5, 1, 2)


def test_srun_is_no_mpi_though_it_sets_its_variables(monkeypatch):
    launched_by(monkeypatch, SLURM, 1, 2)
    launched_by(monkeypatch, MPICH, 1, 2)
    assert Rendezvous.of_environment() is None


def world_of(rank, size):
    """mpi4py of another MPI than the launcher's: each process is alone."""
    world = types.SimpleNamespace(rank=rank, size=size)
    version = lambda: "MPICH 5\nof today"
    return types.SimpleNamespace(COMM_WORLD=world, Get_library_version=version)


def test_an_mpi_that_is_not_the_launchers_is_refused(monkeypatch):
    import mpi4py

    launched_by(monkeypatch, OPEN_MPI, 1, 2)
    # Python's own import would start an MPI in this process.
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", world_of(0, 1))
    monkeypatch.setattr(mpi4py, "MPI", world_of(0, 1), raising=False)
    with pytest.raises(ValueError, match=r"rank 1 of 2.*got 0 of 1.*MPICH 5\)\. Set"):
        Rendezvous.of_environment()


def test_without_mpi4py_the_package_is_named(monkeypatch):
    launched_by(monkeypatch, MPICH, 0, 2)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"MPICH or Intel MPI.*trpo\[mpi\]"):
        Rendezvous.of_environment()


def assert_made_by_two(directory, said):
    """The run of one process, but for rounding."""
    assert "saved in" in said, said
    run = RunDirectory(directory)
    arrays = run.load()[0].arrays
    trainer = Trainer(run.read_config())
    try:
        trainer.run()
        wanted = trainer.get_state()
    finally:
        trainer.close()
    assert int(arrays["training.update"]) == STEPS // 96
    for name in (n for n in wanted if n.startswith(("policy.", "value."))):
        np.testing.assert_allclose(
            arrays[name], wanted[name], rtol=1e-3, atol=1e-4, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_processes_of_open_mpi_make_one_run(tmp_path, backend):
    allowed = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [str(BIN / "mpirun"), "--oversubscribe", "-n", "2", str(BIN / "trpo")]
    command += [*TRAIN, "--backend", backend, "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(
        command,
        env=os.environ | allowed,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert_made_by_two(tmp_path / "run", done.stdout)


@pytest.mark.slow
def test_jax_finds_slurm(tmp_path):
    # What srun sets on one machine; JAX takes the port from the job's number.
    job = free_port() % 2**12
    shared = {
        "SLURM_JOB_ID": str(job), "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [str(BIN / "trpo"), *TRAIN, "--run-dir", str(tmp_path / "run")]
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | shared | dict.fromkeys(SLURM[0:3:2], str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert_made_by_two(tmp_path / "run", said[0][0])
