"""A run directory with links, pipes and others' files in it: nothing else is touched.

Each name that is written, swept or deleted below a run directory is made a symbolic
link, a hard link, a pipe or a directory. A run works, or ends with one line that names
the path; what the link named is as it was.
"""

import os
import shutil
import threading

import pytest

from tests.support.callback_runs import small
from tests.support.event_readers import assert_events_are_the_metrics
from trpo.cli.main import main
from trpo.common.files import LOCK, FileError, Folder
from trpo.runs.curves_page import write_diagnostics
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run
from trpo.sweeps.pool import execute, locked


SETTINGS = {
    "save_best": True,
    "eval_interval": 1,
    "checkpoint_interval": 1,
    "eval_episodes": 1,
}
NEWEST = "checkpoint-000000000192"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of two updates."""
    run = tmp_path_factory.mktemp("made") / "run"
    train_run(small(total_steps=2 * 64, **SETTINGS), run)
    return run


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture
def victim(tmp_path):
    """A user's folder; afterwards it has to be what it was."""
    folder = tmp_path / "victim"
    (folder / "deep").mkdir(parents=True)
    (folder / "thesis.txt").write_text("three years of work")
    (folder / "deep" / "more.txt").write_text("and more")
    before = content(folder)
    yield folder
    assert content(folder) == before


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def go_on(run):
    """Train for one update more."""
    config = small(total_steps=3 * 64, **SETTINGS)
    return train_run(config, run, resume=True)


KINDS = {
    "a link": lambda path, victim: path.symlink_to(victim / "thesis.txt"),
    "a broken link": lambda path, victim: path.symlink_to(victim / "new.txt"),
    "a hard link": lambda path, victim: os.link(victim / "thesis.txt", path),
    "a pipe": lambda path, victim: os.mkfifo(path),
}
# Written, and never read before.
WRITTEN = (
    "evaluation.json", "learning_curve.png", ".tmp-config.json", ".tmp-metrics.csv",
    ".tmp-evaluation.json", ".tmp-learning_curve.png", "metrics.csv.tmp",
    "best/.tmp-config.json", f"checkpoints/.tmp-{NEWEST}",
    f"best/checkpoints/.tmp-{NEWEST}", f"checkpoints/.old-{NEWEST}",
    "tensorboard/events.out.tfevents.9999999999.host",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_are_written_are_replaced_and_not_followed(run, victim, kind):
    for name in WRITTEN:
        (run / name).unlink(missing_ok=True)
        KINDS[kind](run / name, victim)
    go_on(run)
    assert len(read_metrics(run / "metrics.csv")) == 3
    assert RunDirectory(run).load()[0].step == 192
    for name in ("evaluation.json", "learning_curve.png"):
        assert (run / name).is_file()
        assert not (run / name).is_symlink()
    # It would hold TensorBoard, which waits for whoever writes to a pipe.
    (run / "tensorboard" / "events.out.tfevents.9999999999.host").unlink()
    assert_events_are_the_metrics(run)


READ = ("config.json", "metrics.csv", LOCK)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("kind", ["a link", "a broken link", "a pipe"])
def test_names_that_are_read_first_end_it_in_a_line(run, victim, kind, name, capsys):
    (run / name).unlink()
    KINDS[kind](run / name, victim)
    assert main(["train", "--resume", str(run), "--total-steps", "192"]) == 2
    said = capsys.readouterr().err.strip()
    assert str(run / name) in said
    assert "\n" not in said


def test_a_hard_link_in_place_of_a_file_is_not_written_to(run, victim):
    (run / LOCK).unlink()
    os.link(victim / "thesis.txt", run / LOCK)
    with pytest.raises(
        FileError, match=rf"{run / LOCK}: expected a file with no other"
    ):
        go_on(run)
    (run / LOCK).unlink()
    for name in ("config.json", "metrics.csv"):
        shutil.move(run / name, victim.parent / name)
        os.link(victim.parent / name, run / name)
    before = [(victim.parent / n).read_bytes() for n in ("config.json", "metrics.csv")]
    go_on(run)
    after = [(victim.parent / n).read_bytes() for n in ("config.json", "metrics.csv")]
    assert after == before


FOLDERS = (
    "checkpoints", "best", "best/checkpoints", "tensorboard", "videos", "wandb",
)  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("kind", ["a link", "a file", "a pipe"])
def test_folders_are_not_followed(run, victim, name, kind, capsys):
    shutil.rmtree(run / name, ignore_errors=True)
    if kind == "a link":
        (run / name).symlink_to(victim)
    else:
        (os.mkfifo if kind == "a pipe" else os.mknod)(run / name)
    assert main(["train", "--resume", str(run), "--total-steps", "192"]) == 2
    said = capsys.readouterr().err.strip()
    assert str(run / name) in said
    assert "\n" not in said


FILES = ("config.json", "metrics.csv", "evaluation.json", "learning_curve.png", LOCK)


@pytest.mark.parametrize("name", [*FILES, *(f".tmp-{name}" for name in FILES[:4])])
def test_a_directory_in_place_of_a_file_stays_with_what_it_holds(
    run, victim, name, capsys
):
    (run / name).unlink(missing_ok=True)
    shutil.copytree(victim, run / name)
    assert main(["train", "--resume", str(run), "--total-steps", "192"]) == 2
    said = capsys.readouterr().err.strip()
    assert str(run / name) in said
    assert "\n" not in said
    assert content(run / name) == content(victim)


def test_only_what_the_project_has_named_is_removed(run, victim):
    """A user's notes, folders and links beside checkpoints stay, and in the best."""
    mine = {}
    for folder in ("checkpoints", "best/checkpoints", "best", "tensorboard", "."):
        mine[f"{folder}/notes.txt"] = (run / folder / "notes.txt").write_text
        shutil.copytree(victim, run / folder / "mine")
        shutil.copytree(victim, run / folder / ".tmp-mine")
        shutil.copytree(victim, run / folder / "checkpoint-of-mine")
        (run / folder / "mine-elsewhere").symlink_to(victim)
    for write in mine.values():
        write("keep me")
    # Inside a checkpoint, which is deleted as it is the oldest.
    oldest = min((run / "checkpoints").glob("checkpoint-0*"))
    (oldest / "notes.txt").write_text("of this one")
    config = small(total_steps=3 * 64, **SETTINGS, keep_checkpoints=1)
    train_run(config, run, resume=True)
    assert all((run / name).read_text() == "keep me" for name in mine)
    for folder in ("checkpoints", "best/checkpoints", "best", "tensorboard", "."):
        for name in ("mine", ".tmp-mine", "checkpoint-of-mine"):
            assert content(run / folder / name) == content(victim)
        assert (run / folder / "mine-elsewhere").is_symlink()
    assert not oldest.exists()
    (notes,) = (run / "checkpoints").glob(".tmp-checkpoint-*/*")
    assert notes.read_text() == "of this one"


def test_the_best_of_a_stranger_deletes_nothing(run, victim):
    """`keep_only` removed every other entry, wherever `best/checkpoints` led."""
    inside = victim.parent / "strangers"
    shutil.copytree(victim, inside)
    before = content(inside)
    shutil.rmtree(run / "best" / "checkpoints")
    (run / "best" / "checkpoints").symlink_to(inside)
    with pytest.raises(FileError, match="best/checkpoints"):
        go_on(run)
    assert content(inside) == before


def test_a_run_directory_may_itself_be_a_link(run, tmp_path):
    (tmp_path / "link").symlink_to(run)
    go_on(tmp_path / "link")
    assert RunDirectory(run).load()[0].step == 192
    assert (tmp_path / "link").is_symlink()


def test_a_plot_does_not_follow(run, victim):
    names = (
        "diagnostics.png", "diagnostics.html", ".tmp-diagnostics.png",
        ".tmp-diagnostics.html",
    )  # fmt: skip
    for name, kind in zip(names, KINDS.values(), strict=True):
        kind(run / name, victim)
    for path in write_diagnostics([run]):
        assert path.stat().st_size > 1000
        assert not path.is_symlink()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_s_own_files_do_not_follow(tmp_path, victim, kind):
    from trpo.sweeps.report import write_report

    root = tmp_path / "sweep"
    root.mkdir()
    for name in ("results.csv", "results.md", ".tmp-results.md", "run.log"):
        KINDS[kind](root / name, victim)
    write_report([], root)
    execute(["true"], root / "run.log", threading.Event())
    assert (root / "results.md").is_file()
    assert (root / "run.log").read_text() == ""
    KINDS[kind](root / LOCK, victim)
    with pytest.raises(FileError, match=str(root / LOCK)), locked(root):
        pass


def test_a_sweep_s_run_may_be_no_link(tmp_path, victim):
    from trpo.sweeps.worker import make

    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "run").symlink_to(victim)
    with pytest.raises(FileError, match="sweep/run: expected a directory, got a link"):
        make(tmp_path / "sweep" / "run", small(total_steps=64))


def test_a_sweep_s_run_that_was_killed_early_keeps_the_user_s_files(tmp_path, victim):
    from trpo.sweeps.worker import make

    run = tmp_path / "sweep" / "run"
    RunDirectory(run).write_config(small(total_steps=64))
    (run / "metrics.csv").write_text("step,update\r\n32,1\r\n")
    shutil.copytree(victim, run / "mine")
    make(run, small(total_steps=64))
    assert content(run / "mine") == content(victim)
    assert [row["step"] for row in read_metrics(run / "metrics.csv")] == [64]


def test_a_folder_that_is_new_is_no_link(tmp_path, victim):
    (tmp_path / "start-1").symlink_to(victim)
    (tmp_path / "start-2").symlink_to(victim / "nowhere")
    with Folder(tmp_path) as folder:
        assert folder.fresh("start") == tmp_path / "start-3"
