"""Timing against an older commit: whose packages are timed, and which commits are."""

import shutil

import pytest

from benchmarks.speed.against import ROOT, checked_out, timed


def test_the_packages_of_a_tree_are_timed(tmp_path):
    for name in ("trpo", "trpo_torch"):
        shutil.copytree(ROOT / name, tmp_path / name)
    slow = tmp_path / "trpo_torch" / "agent" / "agent.py"
    text = slow.read_text()
    attribute = "    backend_type: type[Backend] = TRPOBackend\n"
    assert text.count(attribute) == 1
    slow.write_text(
        text.replace(
            attribute,
            f"{attribute}\n"
            "    def update(self, *given, **named):\n"
            "        import time\n"
            "        clock = time.perf_counter\n"
            "        time.perf_counter = lambda: clock() + 1000.0\n"
            "        return super().update(*given, **named)\n",
        )
    )
    assert timed(ROOT, "torch", (64, 4), 0.1) < 1000.0
    assert timed(tmp_path, "torch", (64, 4), 0.1) > 1000.0


def test_packages_of_elsewhere_are_not_timed_for_a_trees(tmp_path):
    with pytest.raises(RuntimeError, match="expected the packages of"):
        timed(tmp_path, "torch", (64, 4), 0.1)


def test_a_commit_that_does_not_exist_is_refused():
    with (
        pytest.raises(ValueError, match="`revision`: expected a commit, got 'bogus'"),
        checked_out("bogus"),
    ):
        pass
