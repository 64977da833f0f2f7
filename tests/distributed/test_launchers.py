"""Processes that a launcher has started: where they meet, that they do, their end."""

import os
import signal

import pytest

from benchmarks.scale.equal_runs import RUN, launched, same_as_one
from benchmarks.scale.faults import SECONDS, Attack, made, names
from benchmarks.scale.processes import Launch
from tests.support.waiting import until
from trpo.config.ranks import RankArguments
from trpo.distributed.launchers import LAUNCHERS, Place


@pytest.fixture(autouse=True)
def unlaunched(monkeypatch):
    for name in {name for one in LAUNCHERS.values() for name in one if name}:
        monkeypatch.delenv(name, raising=False)
    for name in ("MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)


def launched_by(monkeypatch, launcher, rank, size, local=(0, 2), job="77"):
    for name, value in zip(
        LAUNCHERS[launcher], (rank, size, *local, job), strict=False
    ):
        if name:
            monkeypatch.setenv(name, str(value))


def here():
    place = Place.of_launcher()
    assert place is not None
    return place


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_with_an_address_any_launcher_will_do(monkeypatch, launcher):
    launched_by(monkeypatch, launcher, 1, 3, (1, 2))
    monkeypatch.setenv("MASTER_ADDR", "a")
    monkeypatch.setenv("MASTER_PORT", "5")
    assert here() == Place(1, 3, "a:5", local_rank=1)


@pytest.mark.parametrize("launcher", ["Open MPI", "MPICH"])
def test_processes_of_one_machine_agree_on_a_port(monkeypatch, launcher):
    places = []
    for rank in range(2):
        launched_by(monkeypatch, launcher, rank, 2, (rank, 2))
        places.append(here())
    assert [place.rank for place in places] == [0, 1]
    (coordinator,) = {place.coordinator for place in places}
    host, port = coordinator.split(":")
    # Above those that Linux gives to whoever asks for any.
    assert host == "127.0.0.1"
    assert 61440 <= int(port) < 65536
    assert not places[0].given
    # On two machines nothing says where the first process is.
    launched_by(monkeypatch, launcher, 0, 4, (0, 2))
    assert here().coordinator is None


def test_another_job_has_another_port(monkeypatch):
    found = set()
    for job in ("prterun-vm-4736@1", "prterun-vm-4737@1", "prterun-vm-4738@1"):
        launched_by(monkeypatch, "Open MPI", 0, 2, (0, 2), job)
        found.add(here().coordinator)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n7", "n7"), ("n7,m2", "n7"), ("n[07-12,15],m1", "n07"), ("n[3,5]", "n3")],
)
def test_slurm_names_the_first_node(monkeypatch, nodes, first):
    launched_by(monkeypatch, "Slurm", 1, 3, (1, ""))
    monkeypatch.setenv("SLURM_STEP_NODELIST", nodes)
    place = here()
    assert str(place.coordinator).split(":")[0] == first
    assert (place.rank, place.size, place.local_rank) == (1, 3, 1)


def test_the_only_process_of_a_machine_has_all_its_gpus(monkeypatch):
    assert Place.of_launcher() is None
    launched_by(monkeypatch, "Open MPI", 1, 3, (0, 1))
    assert here().local_rank is None


def test_who_starts_others_inside_a_job_of_slurm_counts(monkeypatch):
    launched_by(monkeypatch, "Slurm", 0, 1)
    launched_by(monkeypatch, "torchrun", 1, 2)
    assert here()[:2] == (1, 2)


@pytest.mark.parametrize("launcher", ["torchrun", "Slurm"])
def test_a_job_that_was_started_again_says_so(monkeypatch, launcher):
    launched_by(monkeypatch, launcher, 0, 2)
    for count in ("0", "1"):
        monkeypatch.setenv(LAUNCHERS[launcher][5], count)
        assert here().restarted == (count == "1")


def test_a_place_is_what_the_command_line_says():
    assert RankArguments(True, "a:5", 3, 1).place() == Place(1, 3, "a:5")
    assert RankArguments(True).place() is None
    for wrong in (
        ("a", 3, 1), ("a:5", 3, 3), ("a:5", 0, 0), ("a:5", 2, None), (None, 2, 0),
        ("a:5", 3, -1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="`coordinator`: expected HOST:PORT"):
            RankArguments(True, *wrong).place()


PENDULUM, COSTLY = "Pendulum-v1", "trpo/PointCircle-v0"
# At the limit rounding grows from update to update, in any kind of run.
LIMIT = (
    "--module", "examples/cost_environments.py", "--cost-limit", "1.0",
    "--total-steps", "640",
)  # fmt: skip
# An episode has ended by then.
FEW = ("--fisher-every", "3", "--total-steps", "832")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "backend", "size", "env_id", "options"),
    [
        ("torchrun", "torch", 3, PENDULUM, (*FEW, "--batch-chunk-size", "8")),
        ("mpirun", "jax", 2, PENDULUM, ("--recurrent", "gru", *FEW[2:])),
        ("--coordinator", "jax", 2, COSTLY, LIMIT),
        ("srun's variables", "jax", 2, PENDULUM, FEW),
    ],
)
def test_a_run_of_many_processes_is_that_of_one(
    tmp_path, launcher, backend, size, env_id, options
):
    error, same = launched(launcher, backend, size, tmp_path, *options, env_id=env_id)
    assert same, error


@pytest.mark.slow
def test_torchrun_starts_a_run_again_of_which_a_rank_was_killed(tmp_path):
    """A recurrent one; it ends as one process makes it."""
    run, log = tmp_path / "run", tmp_path / "log.txt"
    more = ("--recurrent", "gru", "--backend", "torch", "--run-dir", str(run))
    arguments = [*RUN, *more, "--distributed", "--total-steps", "1280"]
    with Launch("torchrun", arguments, 2, log, restarts=1) as launch:
        until(lambda: [*run.glob("checkpoints/checkpoint-*")])
        os.kill(launch.ranks()[1], signal.SIGKILL)
        said = launch.wait()
    assert launch.processes[0].returncode == 0, said
    assert "continuing from" in said
    assert same_as_one(run)[1]


@pytest.mark.slow
def test_a_rank_that_hangs_is_named_and_the_run_goes_on(tmp_path):
    """Rank 0, which has the store; kills are tried by `benchmarks.faults`."""
    attack = Attack("--coordinator", "torch", 2, 0, signal.SIGSTOP, 0.2, timeout=8.0)
    outcome = made(attack, tmp_path)
    assert outcome.seconds <= SECONDS
    assert outcome.named
    assert outcome.saved > 0
    assert outcome.resumed


def test_who_is_lost_is_read_from_what_is_printed():
    assert names("error: rank 0: lost rank 2: no sign of life for 6 s", 2)
    assert not names("error: rank 0: lost rank 12: …", 2)
    assert names("prterun noticed that process rank 2 with PID 1 on node", 2)
    unhealthy = "tasks are unhealthy (stopped sending heartbeats):\n2\nThe tasks"
    assert names(unhealthy, 2)
    assert not names(unhealthy, 1)
    assert names("Either the leader task was preempted/died/restarted", 0)
    assert not names("rank 2: lost another: Gloo AllGather failed", 2)
