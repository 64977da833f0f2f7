"""TensorBoard's events are `metrics.csv`, however often the run was killed."""

import os

import numpy as np
import pytest

from tests.support.event_readers import (
    assert_events_are_the_metrics,
    scalars,
    scalars_of_server,
)
from trpo.runs.metrics import MetricsWriter, read_metrics


COLUMNS = ("step", "update", "policy/kl", "evaluation/return_mean")


def row(update, kl=0.5):
    values = {"update": update, "policy/kl": kl}
    return values | ({"evaluation/return_mean": -1.0} if update % 2 == 0 else {})


def write(run, updates, last=0, kl=0.5):
    """Rows of a start after the update `last`; it ends without closing anything."""
    writer = MetricsWriter(run, COLUMNS, last_step=64 * last)
    for update in updates:
        assert writer.write(64 * update, row(update, kl)) is None
    return writer


def files_of(run):
    return sorted(path.name for path in (run / "tensorboard").iterdir())


def test_steps_of_a_killed_run_are_there_once(tmp_path):
    first = write(tmp_path, range(1, 6))
    assert_events_are_the_metrics(tmp_path)
    before = scalars(tmp_path / "tensorboard")
    second = write(tmp_path, range(4, 7), last=3, kl=0.25)
    third = write(tmp_path, [5], last=4, kl=0.125)
    assert_events_are_the_metrics(tmp_path)
    kl = scalars(tmp_path / "tensorboard")["policy/kl"]
    assert [value for _, value, _ in kl] == [0.5, 0.5, 0.5, 0.25, 0.125]
    assert kl[:3] == before["policy/kl"][:3]  # With the times of then.
    assert len(files_of(tmp_path)) == 1
    server = scalars_of_server(tmp_path)
    assert server == scalars(tmp_path / "tensorboard")
    for writer in (first, second, third):
        writer.close()


def test_events_of_an_older_version_are_taken_over_and_a_user_s_own_stay(tmp_path):
    from tensorboard.summary import Writer

    run = tmp_path
    write(run, range(1, 4)).close()
    (events,) = (run / "tensorboard").iterdir()
    events.unlink()
    older, mine = (Writer(str(run / "tensorboard")) for _ in range(2))
    for update in (1, 2, 3, 4):
        for name, value in row(update).items():
            older.add_scalar(name, value, step=64 * update, wall_time=100.0 + update)
    older.close()
    mine.add_scalar("mine", 3.0, step=7)
    mine.close()
    theirs = files_of(run)
    write(run, [3], last=2).close()
    assert len({*files_of(run)} & {*theirs}) == 1
    found = scalars(run / "tensorboard")
    assert [event[:2] for event in found.pop("mine")] == [(7, 3.0)]
    assert [step for step, _, _ in found["update"]] == [64, 128, 192]
    assert [moment for _, _, moment in found["update"][:2]] == [101.0, 102.0]


def test_what_is_missing_in_the_events_is_filled_in(tmp_path):
    write(tmp_path, range(1, 4)).close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    events.write_bytes(events.read_bytes()[:-9])  # As a full disk leaves it.
    write(tmp_path, [4], last=3).close()
    assert_events_are_the_metrics(tmp_path)
    (events,) = (tmp_path / "tensorboard").iterdir()
    events.unlink()
    write(tmp_path, [5], last=4).close()
    assert_events_are_the_metrics(tmp_path)


def test_files_that_are_deleted_begin_anew(tmp_path):
    writer = write(tmp_path, range(1, 4))
    (events,) = (tmp_path / "tensorboard").iterdir()
    events.unlink()
    (tmp_path / "tensorboard").rmdir()
    (tmp_path / "metrics.csv").unlink()
    for update in (4, 5):
        assert writer.write(64 * update, row(update)) is None
    writer.close()
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [found["update"] for found in rows] == [4, 5]
    assert_events_are_the_metrics(tmp_path)


DAMAGE = {
    "nothing": lambda path: path.write_bytes(b""),
    "NULs": lambda path: path.write_bytes(b"\0" * 4096),
    "a gigabyte of NULs": lambda path: (path.touch(), os.truncate(path, 2**30)),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(4096)),
    "a record that promises 2^40 bytes": lambda path: path.write_bytes(
        (2**40).to_bytes(8, "little") + bytes(8)
    ),
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link": lambda path: path.symlink_to(path.parent.parent / "outside"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_files_that_are_no_events_stay_and_harm_nothing(tmp_path, kind):
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "tensorboard").mkdir()
    path = tmp_path / "tensorboard" / "events.out.tfevents.1.host"
    DAMAGE[kind](path)
    write(tmp_path, [1]).close()
    assert path.name in files_of(tmp_path)
    assert (tmp_path / "outside").read_text() == "mine"
    if kind not in ("a pipe", "a folder", "a link"):
        assert_events_are_the_metrics(tmp_path)
