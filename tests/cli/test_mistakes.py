"""Each mistake of `mistakes.txt`: one line that says what to do; no file is left."""

import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.command import REPOSITORY
from trpo.cli.main import main


LINES = [
    line.partition(" => ")[::2]
    for line in Path(__file__).with_name("mistakes.txt").read_text().splitlines()
    if " => " in line and not line.startswith("#")
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with what the mistakes name."""
    place = tmp_path_factory.mktemp("place")
    (place / "empty").mkdir()
    (place / "notes.txt").write_text("notes\n")
    (place / "wrong.json").write_text(
        '{"env_id": "CartPole-v1", "total_steps": "many"}'
    )
    (place / "newer.json").write_text('{"format_version": 99}')
    (place / "list.json").write_text("[]")
    (place / "broken_module.py").write_text("#\n1 / 0\n")
    (place / "broken").mkdir()
    (place / "broken" / "config.json").write_text('{"env_id": "CartP')
    shutil.copytree(REPOSITORY / "tests" / "runs" / "older" / "plain", place / "run")
    return place


def files(place):
    # Whoever holds a run writes its name and the time into `.lock`.
    return {
        str(path): path.is_file() and path.name != ".lock" and path.read_bytes()
        for path in place.rglob("*")
    }


@pytest.mark.parametrize(("typed", "said"), LINES, ids=[typed for typed, _ in LINES])
def test_a_mistake_is_one_line_that_says_what_to_do(
    typed, said, place, monkeypatch, capfd
):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = files(place)
    assert main(typed.split()) == 2
    printed, error = capfd.readouterr()
    assert printed == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert files(place) == before


def test_there_are_sixty_or_more():
    assert len(LINES) >= 60
    assert len({typed for typed, _ in LINES}) == len(LINES)
