"""One process writes to a run directory at a time, and it may be deleted meanwhile."""

import datetime
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from tests.support.callback_runs import small
from tests.support.event_readers import assert_events_are_the_metrics
from trpo.cli.main import main
from trpo.common.files import LOCK, FileError, Folder
from trpo.runs.curves_page import write_diagnostics
from trpo.runs.directory import (
    Moment,
    RunDirectory,
    RunDirectoryError,
    directory_of,
    load_agent,
    new_directory,
)
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run
from trpo.sweeps.pool import execute, locked


OWN = rf"in use by process {os.getpid()} on {os.uname().nodename} since \d{{4}}-"
HOLD = """
import os, sys, time
from trpo.common.files import Folder
folder = Folder(sys.argv[1])
folder.lock()
{more}
print("held", flush=True)
time.sleep(600)
"""


def start(directory, more=""):
    """A process that holds a directory."""
    command = [sys.executable, "-c", HOLD.format(more=more), str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def run(tmp_path):
    train_run(small(total_steps=64), tmp_path / "run")
    return tmp_path / "run"


def test_the_second_is_told_who_has_it(run, capsys):
    process = start(run)
    try:
        for command in (["--resume", str(run)], ["CartPole-v1", "--run-dir", str(run)]):
            assert main(["train", *command]) == 2
            said = capsys.readouterr().err.strip()
            host = os.uname().nodename
            assert f"{run}: in use by process {process.pid} on {host} since 2" in said
            assert "\n" not in said
        # Whoever only reads is let in.
        assert load_agent(run)[1].env_id == "CartPole-v1"
        assert len(write_diagnostics([run])) == 2
    finally:
        end(process)
    train_run(small(total_steps=128), run, resume=True)
    assert len(read_metrics(run / "metrics.csv")) == 2


CHILD = """
import subprocess
child = os.fork()
if not child:
    os.close(1)
    time.sleep(600)
other = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
print(child, other.pid, flush=True)
"""


def test_it_ends_with_its_process_whoever_that_has_started(tmp_path):
    command = [sys.executable, "-c", HOLD.format(more=CHILD), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    children = list(map(int, process.stdout.readline().split()))
    try:
        assert process.stdout.readline() == "held\n"
        with Folder(tmp_path) as folder, pytest.raises(FileError, match="in use by"):
            folder.lock()
        end(process)
        for child in children:
            os.kill(child, 0)  # They are alive.
        with Folder(tmp_path) as folder:
            folder.lock()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_runs_of_a_sweep_hold_its_lock_after_it(tmp_path):
    with locked(tmp_path):
        pass
    ready = tmp_path / "ready"
    script = f"trap '' TERM; touch {ready}; exec sleep 2"
    with locked(tmp_path):
        thread = threading.Thread(
            target=execute,
            args=(["sh", "-c", script], tmp_path / "log", threading.Event()),
        )
        thread.start()
        while not ready.exists():
            pass
    with pytest.raises(FileError, match=OWN), locked(tmp_path):
        pass
    thread.join()
    with locked(tmp_path):
        pass


def test_a_lock_that_was_removed_as_it_was_taken_is_none(tmp_path, monkeypatch):
    take, times = Folder._take, []

    def removed(folder, descriptor):
        take(folder, descriptor)
        times.append(descriptor)
        if len(times) == 1:
            folder.remove(LOCK)

    monkeypatch.setattr(Folder, "_take", removed)
    with Folder(tmp_path) as folder:
        folder.lock()
        monkeypatch.undo()
        assert len(times) == 2
        with Folder(tmp_path) as other, pytest.raises(FileError, match=OWN):
            other.lock()


def test_a_file_system_without_locks_lets_a_run_go_on(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Folder(tmp_path) as folder:
        folder.lock()


class Clock(datetime.datetime):
    """Stands still."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 2, 3, 4, 5, 6)


def test_runs_of_one_second_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datetime, "datetime", Clock)
    found, together = [], threading.Barrier(8)

    def claim():
        together.wait()
        found.append(new_directory("run").name)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = "run-20260203-040506"
    assert sorted(found) == [first, *(f"{first}-{n}" for n in range(2, 9))]


def test_nothing_is_left_of_a_new_name_where_nothing_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with directory_of(None, small(), "-compiled") as path:
        assert path.is_dir()
        assert path.name.startswith("CartPole-v1-torch-seed0-compiled-2")
    assert not (tmp_path / "runs").exists()
    with directory_of(tmp_path / "given", small()) as path:
        assert path == tmp_path / "given"


def deleting(run, at, then=lambda: None):
    """A function that deletes the directory after an update."""

    def delete(progress):
        if progress.update == at:
            shutil.rmtree(run)
            then()
        elif run.exists():
            # Also before the next checkpoint: it might be killed.
            assert any(run.rglob("config.json"))

    return delete


def test_a_directory_deleted_in_mid_run_is_said_and_made_again(tmp_path):
    run = tmp_path / "deep" / "run"
    config = small(checkpoint_interval=2, eval_episodes=1, save_best=True)
    whole = tmp_path / "whole"
    train_run(config, whole)
    with pytest.warns(UserWarning, match=f"{run} was deleted while in use: made again"):
        train_run(config, run, callbacks=[deleting(run.parent, 3)])
    assert RunDirectory(run).shown_config() == config
    expected, found = (RunDirectory(path).load()[0] for path in (whole, run))
    for name, array in expected.arrays.items():
        assert (array == found.arrays[name]).all(), name
    # With the lock, and with what comes after.
    assert sorted(path.name for path in run.iterdir()) == [
        *(LOCK, "best", "checkpoints", "config.json", "evaluation.json"),
        *("learning_curve.png", "metrics.csv", "tensorboard"),
    ]
    assert [row["update"] for row in read_metrics(run / "metrics.csv")] == [3, 4, 5, 6]
    assert_events_are_the_metrics(run)
    train_run(small(total_steps=7 * 64), run, resume=True)


def test_another_run_in_its_place_is_left_alone(tmp_path):
    run = tmp_path / "run"
    config = small(checkpoint_interval=1)

    def other():
        run.mkdir()
        (run / "config.json").write_text("another")

    with pytest.raises(RunDirectoryError, match="last checkpoint"):
        train_run(config, run, callbacks=[deleting(run, 3, other)])
    assert [path.name for path in run.iterdir()] == ["config.json"]
    assert (run / "config.json").read_text() == "another"


def test_no_checkpoint_is_without_its_configuration(run, tmp_path):
    (run / "config.json").unlink()
    config = small(total_steps=128)
    train_run(config, run, resume=True)
    assert RunDirectory(run).shown_config() == config
    # As a rank that is left saves, perhaps on another machine's disk.
    checkpoint = RunDirectory(run).load()[0]
    spec = load_agent(run)[0].spec
    elsewhere = RunDirectory(tmp_path / "elsewhere")
    elsewhere.save(Moment(config, spec, 128, checkpoint.arrays, {}))
    assert elsewhere.shown_config() == config
