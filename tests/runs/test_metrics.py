"""`metrics.csv` as it is after a power cut, an editor or a stranger."""

import os
import re
import warnings

import pytest

from trpo.common.files import FileError
from trpo.runs.metrics import DAMAGED, MetricsWriter, logged_steps, read_metrics


HEADER = "step,update,policy/kl"
ROWS = ["64,1,0.01", "128,2,", "192,3,0.03"]
WHOLE = [
    {"step": 64, "update": 1, "policy/kl": 0.01},
    {"step": 128, "update": 2},
    {"step": 192, "update": 3, "policy/kl": 0.03},
]


def written(path, *lines, end="\r\n"):
    path.write_text("".join(line + end for line in lines))
    return path


@pytest.fixture
def table(tmp_path):
    return written(tmp_path / "metrics.csv", HEADER, *ROWS)


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_whole_rows_are_read_whatever_ends_them(tmp_path, end, mark):
    path = written(tmp_path / "metrics.csv", mark + HEADER, *ROWS, "", end=end)
    assert read_metrics(path) == WHOLE
    quoted = [",".join(f'"{cell}"' for cell in row.split(",")) for row in ROWS]
    assert read_metrics(written(path, HEADER, *quoted)) == WHOLE


def test_a_row_without_an_end_was_cut_off_and_is_no_damage(table):
    with table.open("a") as file:
        file.write("256,4,0.0")
    assert read_metrics(table) == WHOLE
    assert logged_steps(table) == 192
    assert read_metrics(table.with_name("none.csv")) == []
    assert read_metrics(table.with_name("none") / "metrics.csv") == []
    table.write_text("")
    assert read_metrics(table) == []


DAMAGE = {
    "NULs": (["\0" * 700], 5),
    "NULs before the end of a line": (["\0" * 700 + "256,4,0.04"], 5),
    "an extra cell": (["256,4,0.04,5"], 5),
    "a missing cell": (["256,4"], 5),
    "a cell of 200,000 characters": (["256,4," + "9" * 200_000], 5),
    "no number": (["256,4,high"], 5),
    "no step": ([",4,0.04"], 5),
    "half a step": (["256.5,4,0.04"], 5),
    "a step below 0": (["-256,4,0.04"], 5),
    "a step that no run takes": (["1e300,4,0.04"], 5),
    "an infinite update": (["256,inf,0.04"], 5),
    "an open quote": (['"256,4,0.04'], 5),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_rows_are_left_out_and_named(table, kind):
    lines, number = DAMAGE[kind]
    written(table, HEADER, *ROWS, *lines, "320,5,0.05")
    message = f"{table}: left out 1 of its rows, the first in line {number}"
    with pytest.warns(UserWarning, match=re.escape(message)):
        assert read_metrics(table) == [
            *WHOLE,
            {"step": 320, "update": 5, "policy/kl": 0.05},
        ]
    assert logged_steps(table) == 320


def test_zeros_at_the_end_are_said_to_be_left_out(table):
    with table.open("ab") as file:
        file.write(b"\0" * 5000)
    with pytest.warns(UserWarning, match="left out 1 of its rows, the first in line 5"):
        assert read_metrics(table) == WHOLE
    assert logged_steps(table) == 0


def test_rows_out_of_order_are_sorted_and_the_later_of_two_counts(table):
    written(table, HEADER, ROWS[2], ROWS[0], "128,2,0.5", ROWS[1])
    with pytest.warns(UserWarning, match="sorted by step, of equal ones the last"):
        assert read_metrics(table) == WHOLE


@pytest.mark.parametrize(
    "header", ["", "steps,update,policy/kl", "step,step,policy/kl", "\0" * 64, "64,1,2"]
)
def test_without_names_of_columns_nothing_is_read(table, header):
    written(table, header, *ROWS)
    with pytest.warns(UserWarning, match=r"line 1 does not name its columns"):
        assert read_metrics(table) == []


def test_what_is_no_file_or_too_large_is_refused_by_name(table):
    os.truncate(table, 2**30)
    with pytest.raises(FileError, match=rf"{table}: expected .* bytes at most"):
        read_metrics(table)
    table.write_bytes(b"step\n" * 1_000_001)
    with pytest.raises(FileError, match=rf"{table}: expected at most 1,000,000 rows"):
        read_metrics(table)
    table.unlink()
    for make in (os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")):
        make(table)
        with pytest.raises(FileError, match=f"{table}: expected a "):
            read_metrics(table)
        assert logged_steps(table) == 0
        table.rmdir() if table.is_dir() else table.unlink()


def test_a_run_goes_on_after_damage_and_the_damaged_file_is_kept(table):
    content = table.read_bytes() + b"\0" * 4096
    table.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"left out 1 .* is now {DAMAGED}"):
        writer = MetricsWriter(table.parent, ("step", "update"), last_step=128)
    writer.write(192, {"update": 3})
    writer.close()
    assert (table.parent / DAMAGED).read_bytes() == content
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = read_metrics(table)
    assert rows == [*WHOLE[:2], {"step": 192, "update": 3}]
    assert logged_steps(table) == 192


def test_columns_of_another_version_or_of_the_user_s_own_stay(table):
    written(table, f"{HEADER},mine", *(f"{row},7" for row in ROWS))
    writer = MetricsWriter(table.parent, ("step", "update"), last_step=128)
    writer.write(192, {"update": 3})
    writer.close()
    assert read_metrics(table) == [
        *({**row, "mine": 7} for row in WHOLE[:2]),
        {"step": 192, "update": 3},
    ]
    assert not (table.parent / DAMAGED).exists()
