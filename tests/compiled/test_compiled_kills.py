"""Compiled members that were killed at any call of the system while they saved."""

import contextlib
import os
import shutil
from unittest import mock

import numpy as np
import pytest

from tests.compiled.test_compiled_command import small
from trpo.cli.main import main
from trpo.common.files import FileError
from trpo.runs.compiled import (
    compiled_run,
    train_compiled_run,
)
from trpo.runs.directory import RunDirectory
from trpo.runs.driver import Driver


STEPS = 200
CONFIG = small(
    total_steps=3 * STEPS,
    checkpoint_interval=1,
    keep_checkpoints=1,
    eval_interval=0,
    eval_episodes=0,
)
CALLS = ("open", "write", "fsync", "mkdir", "rename", "unlink", "rmdir")


class Snapshots:
    """What a run directory is before each call that a save makes.

    kill -9 leaves all that was written by then, and nothing of what comes after.
    """

    def __init__(self, run, root):
        self.run, self.root = run, root
        self.taken = []
        self.busy = False

    def save(self, save):
        def saving(driver):
            with contextlib.ExitStack() as stack:
                for call in CALLS:
                    stack.enter_context(self._recorded(call))
                result = save(driver)
            self.take(driver.subject.step_count)
            return result

        return saving

    def take(self, saved):
        """Copy the directory; `saved` is the step that all members have by then."""
        path = self.root / f"{len(self.taken)}"
        shutil.copytree(self.run, path)
        self.taken.append((path, saved))

    def _recorded(self, name):
        real = getattr(os, name)

        def call(*arguments, **options):
            if not self.busy and (name != "open" or arguments[1] & os.O_CREAT):
                self.busy = True
                self.take(self.taken[-1][1] if self.taken else 0)
                self.busy = False
            return real(*arguments, **options)

        return mock.patch.object(os, name, call)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A whole run of two members, and all that a kill in a save may leave."""
    root = tmp_path_factory.mktemp("kills")
    snapshots = Snapshots(root / "run", root)
    save = snapshots.save(Driver.write_checkpoints)
    with mock.patch.object(Driver, "write_checkpoints", save):
        train_compiled_run(CONFIG, root / "run", num_seeds=2)
    return root / "run", snapshots.taken


def states(run):
    return [
        RunDirectory(run / f"seed={seed}").load()[0]
        for seed in (CONFIG.seed, CONFIG.seed + 1)
    ]


def test_all_members_have_a_step_at_every_moment(killed):
    _, taken = killed
    # Three saves of two members, of a dozen calls at least.
    assert len(taken) > 3 * 2 * 12
    apart = 0
    for path, saved in taken:
        found = compiled_run(CONFIG, path, 2, {}).checkpoints_to_resume()
        if not found:
            assert saved == 0, path
            continue
        assert [checkpoint.step for checkpoint in found] == [found[0].step] * 2
        assert found[0].step >= saved, path
        apart += len({c.step for c in states(path)}) == 2
    assert apart > 10  # Or nothing was cut between two members.


@pytest.mark.parametrize("save", [0, 1])
def test_a_run_killed_between_two_members_ends_as_one_that_was_not(killed, save):
    whole, taken = killed

    def between(path):
        """Whether one member alone has this save's checkpoint."""
        step = (save + 1) * STEPS
        have = [
            (path / name / "checkpoints" / f"checkpoint-{step:012d}").exists()
            for name in ("seed=0", "seed=1")
        ]
        return have == [True, False]

    path = next(path for path, _ in taken if between(path))
    train_compiled_run(CONFIG, path, resume=True)
    for expected, found in zip(states(whole), states(path), strict=True):
        assert expected.step == found.step == CONFIG.total_steps
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(array, found.arrays[name], err_msg=name)


def test_members_are_not_followed_where_they_are_links(killed, tmp_path, capsys):
    run = shutil.copytree(killed[0], tmp_path / "run")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis.txt").write_text("mine")
    moved = shutil.move(run / "seed=1", tmp_path / "elsewhere")
    (run / "seed=1").symlink_to(moved)
    before = sorted(str(path) for path in (tmp_path / "elsewhere").rglob("*"))
    assert main(["train", "--resume", str(run), "--total-steps", "800"]) == 2
    said = capsys.readouterr().err.strip()
    assert f"{run / 'seed=1'}: expected a directory, got a link" in said
    assert sorted(str(path) for path in (tmp_path / "elsewhere").rglob("*")) == before
    (run / "seed=1").unlink()
    shutil.move(moved, run / "seed=1")
    for name in ("compiled.json", "members.csv", "learning_curves.png"):
        (run / f".tmp-{name}").symlink_to(tmp_path / "victim" / "thesis.txt")
        if name != "compiled.json":
            (run / name).unlink()
            os.link(tmp_path / "victim" / "thesis.txt", run / name)
    assert main(["train", "--resume", str(run), "--total-steps", "800"]) == 0
    assert (run / "members.csv").read_text().startswith("member,seed")
    assert (tmp_path / "victim" / "thesis.txt").read_text() == "mine"


def test_a_run_and_its_members_are_one_process_s_at_a_time(killed, tmp_path):
    run = shutil.copytree(killed[0], tmp_path / "run")
    directory = RunDirectory(run)
    for held in (directory, directory.at(run / "seed=1")):
        with held.held(), pytest.raises(FileError, match=f"{held.path}: in use by"):
            train_compiled_run(CONFIG, run, resume=True)
