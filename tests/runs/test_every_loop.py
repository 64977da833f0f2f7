"""One driver: whatever ends a run, of any kind, it goes on as if nothing had been.

The host's loop, two ranks (threads of this process), a compiled run and one of two
members: the same settings, faults, files and columns. `benchmarks.faults` kills real
processes.
"""

import csv
import errno
import functools
import os
import shutil
import signal
import time
from unittest import mock

import numpy as np
import pytest

from parity_tests.rings.rank_threads import ThreadRanks, run_ranks
from trpo.callbacks.base import Callback
from trpo.common.files import FileError
from trpo.common.signals import stop_signals
from trpo.config.presets import preset_config
from trpo.runs.compiled import train_compiled_run
from trpo.runs.directory import RunDirectory, RunDirectoryError
from trpo.runs.distributed import _follow, _lead
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run
from trpo.training.progress import COLUMNS, EVALUATION_COLUMNS


KINDS = ("host", "ranks", "compiled", "members")
STEPS = 16
UPDATES = 6
SMALL = {
    "num_envs": 2, "rollout_steps": STEPS // 2, "total_steps": UPDATES * STEPS,
    "policy_layer_sizes": (4,), "critic_layer_sizes": (4,), "value_epochs": 1,
    "eval_episodes": 1, "eval_interval": 2, "checkpoint_interval": 2,
    "keep_checkpoints": 1,
}  # fmt: skip
# What one program does can't be timed apart.
UNTIMED = {"time/acting_and_stepping_seconds", "time/learning_seconds"}


def train(kind, path, resume=False):
    """Begin or continue a run of this kind."""
    on_host = kind in ("host", "ranks")
    env_id, backend = ("CartPole-v1", "torch") if on_host else (COMPILED, "jax")
    config = preset_config(env_id, backend=backend, **SMALL)
    if kind == "host":
        train_run(config, path, resume=resume)
    elif kind == "ranks":
        with stop_signals() as asked:
            run_ranks(2, functools.partial(_rank, config, path, resume, asked))
    else:
        seeds = 2 if kind == "members" else 1
        train_compiled_run(config, path, num_seeds=seeds, resume=resume)


COMPILED = "phys2d/CartPole-v1"


def _rank(config, path, resume, asked, ranks):
    ranks.local.ranks = ranks
    if ranks.rank:
        _follow(config, ranks, asked)
    else:
        _lead(config, path, ranks, asked, resume)


def _all_reduce(tensor, *_, **__):
    ThreadRanks.local.ranks.all_reduce(tensor)


@pytest.fixture(autouse=True)
def sums_over_threads():
    with mock.patch("trpo_torch.devices.reduction.distributed.all_reduce", _all_reduce):
        yield


class At(Callback):
    """Does something at an update; notes what it is told."""

    def __init__(self, update, action):
        self.update, self.action, self.notes = update, action, []

    def on_update(self, progress):
        self.notes.append(("update", progress.update))
        if progress.update == self.update:
            self.action()

    def on_evaluation(self, progress, result):
        self.notes.append(("evaluation", progress.update, len(result.returns)))

    def on_checkpoint(self, progress, path):
        self.notes.append(("checkpoint", progress.update))


def doing(update, action):
    """Have `action` be done after an update of any run of this block."""
    callbacks = []

    def configured(_):
        callbacks.append(At(update, action))
        return callbacks[-1:]

    patch = mock.patch("trpo.runs.driver.configured_callbacks", configured)
    patch.callbacks = callbacks
    return patch


def directories(kind, path):
    return [path / f"seed={i}" for i in (0, 1)] if kind == "members" else [path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run of a kind to which nothing happens, and what its callbacks were told."""

    @functools.cache
    def run(kind):
        path = tmp_path_factory.mktemp("whole") / kind
        watched = doing(0, None)
        with (
            watched,
            mock.patch(
                "trpo_torch.devices.reduction.distributed.all_reduce", _all_reduce
            ),
        ):
            train(kind, path)
        return path, watched.callbacks[0].notes

    return run


def untimed(path):
    """Rows of metrics as they are written, but for what was timed."""
    with path.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    return [{n: v for n, v in row.items() if n[:5] != "time/"} for row in rows]


def assert_same(kind, path, expected):
    """The run has ended as one that was not cut: states, metrics, checkpoints."""
    for one, other in zip(
        directories(kind, path), directories(kind, expected), strict=True
    ):
        found, wanted = (RunDirectory(each).load()[0] for each in (one, other))
        assert found.step == wanted.step == UPDATES * STEPS
        assert set(found.arrays) == set(wanted.arrays)
        for name, array in wanted.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
        rows, others = (untimed(each / "metrics.csv") for each in (one, other))
        assert rows == others
        assert len(list((one / "checkpoints").iterdir())) == 1
        assert (one / "evaluation.json").read_text() == (
            other / "evaluation.json"
        ).read_text()


def assert_all_saved(kind, path):
    """Nothing is lost of a run that was ended after its third update."""
    steps = {RunDirectory(each).load()[0].step for each in directories(kind, path)}
    # Ranks tell each other before the next update; a chunk is done to its end.
    assert steps in ({3 * STEPS}, {4 * STEPS})


def ask(number):
    """Send a signal, which the main thread takes."""
    with stop_signals() as asked:
        os.kill(os.getpid(), number)
        while not asked.is_set():
            time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal(kind, number, tmp_path, whole, capsys):
    with doing(3, lambda: ask(number)):
        train(kind, tmp_path / "run")
    assert "everything is saved in" in capsys.readouterr().out
    assert_all_saved(kind, tmp_path / "run")
    train(kind, tmp_path / "run", resume=True)
    assert_same(kind, tmp_path / "run", whole(kind)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_in_a_callback(kind, tmp_path, whole, capsys):
    def fail():
        raise RuntimeError("planted")

    with doing(3, fail), pytest.raises(RuntimeError, match="planted"):
        train(kind, tmp_path / "run")
    assert "; continue: trpo train --resume" in capsys.readouterr().out
    assert_all_saved(kind, tmp_path / "run")
    train(kind, tmp_path / "run", resume=True)
    assert_same(kind, tmp_path / "run", whole(kind)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(kind, tmp_path, whole, capsys, monkeypatch):
    opened, full = os.open, []

    def refusing(path, flags, *rest, **options):
        if full and str(path).endswith("state.safetensors") and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refusing)
    with (
        doing(3, lambda: full.append(True)),
        pytest.raises(RunDirectoryError, match="room for the last checkpoint"),
    ):
        train(kind, tmp_path / "run")
    assert "no checkpoint was written" in capsys.readouterr().out
    full.clear()
    for directory in directories(kind, tmp_path / "run"):
        assert RunDirectory(directory).load()[0].step == 2 * STEPS
    train(kind, tmp_path / "run", resume=True)
    assert_same(kind, tmp_path / "run", whole(kind)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kill_leaves(kind, tmp_path, whole):
    run, left = tmp_path / "run", tmp_path / "left"
    with doing(5, lambda: shutil.copytree(run, left, dirs_exist_ok=True)):
        train(kind, run)
    train(kind, left, resume=True)
    for path in (run, left):
        assert_same(kind, path, whole(kind)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes(kind, tmp_path, whole):
    run = shutil.copytree(whole(kind)[0], tmp_path / "run")
    for directory in {run, *directories(kind, run)}:
        with (
            RunDirectory(directory).held(),
            pytest.raises(FileError, match="in use by process"),
        ):
            train(kind, run, resume=True)
    assert_same(kind, run, whole(kind)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_can_t_start_leaves_nothing(kind, tmp_path):
    failing = mock.patch.object(At, "on_start", side_effect=RuntimeError("planted"))
    with doing(0, None), failing, pytest.raises(RuntimeError, match="planted"):
        train(kind, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_files_columns_and_events_are_the_same(kind, whole):
    expected, events = whole("host")
    run, told = whole(kind)
    assert told == events
    every = {"update", "evaluation", "checkpoint"}
    assert {note[0] for note in events} == every
    for directory in directories(kind, run):
        names = {path.name for path in directory.iterdir()} - {"compiled.json"}
        assert names == {path.name for path in expected.iterdir()}
        with (directory / "metrics.csv").open() as file:
            header = next(csv.reader(file))
        assert header == [*COLUMNS, *EVALUATION_COLUMNS]
        one, other = (
            [set(row) for row in read_metrics(each / "metrics.csv")]
            for each in (directory, expected)
        )
        apart = UNTIMED if kind in ("compiled", "members") else set()
        # Episodes end when they end.
        episodes = {n for n in COLUMNS if n.startswith("rollout/episode_")}
        assert [row - episodes for row in one] == [
            row - episodes - apart for row in other
        ]
        # Of environments that tell of it, which these don't.
        assert set().union(*one) == set(header) - apart - {"rollout/success_rate"}
