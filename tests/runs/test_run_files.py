"""Files of a run directory that are not what the project writes: refused by name."""

import json
import os
import re
import socket

import pytest

from trpo.common import formats
from trpo.common.files import FileError
from trpo.config.run import TrainConfig
from trpo.runs.curves import load_runs
from trpo.runs.directory import RunDirectory, RunDirectoryError
from trpo.sweeps.sweep import SweepRun


CONFIG = TrainConfig(env_id="Pendulum-v1")
EVALUATION = {"mean": -3.5, "std": 0.5, "episodes": 2, "returns": [-3.0, -4.0]}


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.write_config(CONFIG)
    (directory.path / "metrics.csv").write_text("step\r\n64\r\n")
    (directory.path / "evaluation.json").write_text(json.dumps(EVALUATION))
    return directory


def _socket(path):
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


NO_FILES = {
    "a link": lambda path: path.symlink_to(path.parent / "metrics.csv"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to endless zeros": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": _socket,
}


def replace(path, kind, monkeypatch):
    path.unlink()
    monkeypatch.chdir(path.parent)  # The name of a socket is short.
    NO_FILES[kind](path if kind != "a socket" else path.name)


BAD_TEXT = {
    "nothing": (b"", "not JSON"),
    "half": (b'{"env_id": "Pend', "not JSON"),
    "NULs": (b"\0" * 4096, "not JSON"),
    "bytes": (b"\x80\xff\xfe", "not JSON"),
    "ten thousand levels": (b"[" * 10_000, "not JSON"),
    "a number that is none": (b'{"env_id": NaN}', "not JSON"),
    "a number too large": (b'{"env_id": 1e999}', "not JSON"),
    "a number too long": (b'{"env_id": ' + b"9" * 5000 + b"}", "not JSON"),
    "a list": (b"[]", r"expected a dictionary, got \[\]"),
    "a name": (b'"Pendulum-v1"', "expected a dictionary, got 'Pendulum-v1'"),
    "null": (b"null", "expected a dictionary, got None"),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_refused(run, kind, monkeypatch):
    for name, read in (
        ("config.json", run.read_config),
        ("evaluation.json", run.read_evaluation),
    ):
        replace(run.path / name, kind, monkeypatch)
        with pytest.raises(FileError, match=rf"{run.path / name}: "):
            read()


@pytest.mark.parametrize("kind", BAD_TEXT)
def test_what_is_no_json_object_is_refused(run, kind):
    content, message = BAD_TEXT[kind]
    for name, read in (
        ("config.json", run.read_config),
        ("evaluation.json", run.read_evaluation),
    ):
        (run.path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{run.path / name}: .*{message}"):
            read()


def test_a_file_of_a_gigabyte_is_refused_unread(run):
    for name, read in (
        ("config.json", run.read_config),
        ("evaluation.json", run.read_evaluation),
    ):
        os.truncate(run.path / name, 2**30)
        with pytest.raises(FileError, match=f"{run.path / name}: expected .* at most"):
            read()


CHANGES = {
    "env_id": None,
    "num_envs": 2**31,
    "eval_episodes": 2**62,
    "rollout_steps": 3.7,
    "keep_checkpoints": True,
    "colour": "blue",
    "agent": {"policy_layer_sizes": [10**9]},
    "callbacks": [],
    "format_version": 9,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_field_out_of_range_is_named_with_its_file(run, name):
    path = run.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: CHANGES[name]}))
    field = "policy_layer_sizes" if name == "agent" else name
    with pytest.raises(RunDirectoryError, match=f"{path}: .*{field}") as error:
        run.read_config()
    assert "\n" not in str(error.value)


def test_a_configuration_has_the_number_of_its_format_and_older_ones_load(run):
    path = run.path / "config.json"
    values = json.loads(path.read_text())
    assert values["format_version"] == formats.PRESENT[formats.CONFIG]
    assert run.read_config() == CONFIG
    del values["format_version"]
    # One that was written before most fields were there.
    for older in (values, {"env_id": "Pendulum-v1"}):
        path.write_text(json.dumps(older))
        assert run.read_config() == CONFIG


@pytest.mark.parametrize("version", [-1, 9, 2**62, 1.0, "1", None, True, [1]])
def test_an_unknown_format_is_refused(run, version):
    path = run.path / "config.json"
    values = json.loads(path.read_text()) | {"format_version": version}
    path.write_text(json.dumps(values))
    with pytest.raises(RunDirectoryError, match=r"config.json: `format_version`: exp"):
        run.read_config()


def test_older_formats_are_translated_step_by_step(monkeypatch):
    monkeypatch.setitem(formats.PRESENT, "kind", 3)
    for number, change in enumerate(("a", "b"), 1):
        monkeypatch.setitem(
            formats.TRANSLATIONS,
            ("kind", number),
            lambda values, change=change: {**values, change: len(values)},
        )
    assert formats.translated("kind", {"format_version": 1}) == {"a": 0, "b": 1}
    assert formats.translated("kind", {"format_version": 2}) == {"b": 0}
    assert formats.translated("kind", formats.numbered("kind", {"c": 1})) == {"c": 1}
    with pytest.raises(ValueError, match=r"expected one of \[1, 2, 3\], got 0"):
        formats.translated("kind", {})


@pytest.mark.parametrize(
    "change",
    [
        *({"mean": value} for value in (None, True, "3", [1], 10**400)),
        *({"std": value} for value in (None, -1.0)),
        *({"episodes": value} for value in (None, 0, 2.0, 2**62)),
    ],
)
def test_an_evaluation_out_of_shape_is_refused(run, change):
    path = run.path / "evaluation.json"
    path.write_text(json.dumps(EVALUATION | change))
    with pytest.raises(FileError, match=f"{path}: `{next(iter(change))}`: expected"):
        run.read_evaluation()


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"{}", b"[]", b'{"mean": 1'])
def test_a_half_written_evaluation_is_none_to_a_sweep_and_a_plot(run, content):
    swept, root = SweepRun("run", CONFIG, {}), run.path.parent
    assert swept.is_done(root)
    assert swept.result(root).mean == -3.5
    (run.path / "evaluation.json").write_bytes(content)
    assert not swept.is_done(root)
    with pytest.warns(UserWarning, match=re.escape(f"{run.path / 'evaluation.json'}")):
        (loaded,) = load_runs([run.path])
    assert loaded.evaluation is None
    (run.path / "evaluation.json").unlink()
    assert not swept.is_done(root)
    assert load_runs([run.path])[0].evaluation is None
