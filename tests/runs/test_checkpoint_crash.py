"""Checkpoints on full disks, and files made to do harm; kills: `test_torture.py`."""

import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from benchmarks.faults.checkpoints import Touch, forge
from trpo.common.files import Folder
from trpo.common.tensors import describe
from trpo.runs.checkpoint import (
    MANIFEST_FILE,
    STATE_FILE,
    CheckpointError,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)


FILL_THE_DISK = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from trpo.runs.checkpoint import save_checkpoint

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    save_checkpoint(Path(sys.argv[1]), 2, {"w": np.ones(4096)}, {}, keep=1)
except OSError as error:
    print("refused", error.errno)
"""


@pytest.mark.parametrize("limit", [0, 20_000, 32_800])
def test_full_disk_leaves_the_older_checkpoint(tmp_path, limit):
    path = save_checkpoint(tmp_path, 1, {"w": np.zeros(3)}, {}, keep=1)
    result = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("refused")
    assert list(tmp_path.iterdir()) == [path]
    assert newest_checkpoint(tmp_path)[0].step == 1


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_an_error_at_any_system_call_leaves_a_valid_checkpoint(
    tmp_path, monkeypatch, failing
):
    real, calls = getattr(os, failing), 0
    save_checkpoint(tmp_path, 1, {"w": np.zeros(3)}, {"first": True}, keep=2)
    outcomes = []
    for break_at in range(1, 9):
        calls = 0

        def breaks(*arguments, break_at=break_at, **folders):
            nonlocal calls
            calls += 1
            if calls == break_at:
                raise OSError(5, "Input/output error")
            return real(*arguments, **folders)

        with monkeypatch.context() as patch:
            patch.setattr(os, failing, breaks)
            try:
                save_checkpoint(tmp_path, 1, {"w": np.ones(3)}, {}, keep=2)
                outcomes.append("saved")
            except OSError:
                outcomes.append("failed")
        checkpoint, errors = newest_checkpoint(tmp_path)
        assert (checkpoint.step, errors) == (1, [])
    assert outcomes[0] == "failed"
    assert outcomes[-1] == "saved"


def _calls(monkeypatch):
    """What becomes of the disk, in order: (call, directory or file, name)."""
    seen, fsync = [], os.fsync

    def path_of(descriptor):
        # A directory that has been renamed since is under its new name.
        return os.readlink(f"/proc/self/fd/{descriptor}")

    def synced(descriptor):
        seen.append(("fsync", path_of(descriptor), ""))
        fsync(descriptor)

    def noted(name, real, folder):
        def call(*arguments, **options):
            result = real(*arguments, **options)
            seen.append((name, path_of(options[folder]), arguments[-1]))
            return result

        return call

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "mkdir", noted("mkdir", os.mkdir, "dir_fd"))
    monkeypatch.setattr(os, "rename", noted("rename", os.rename, "dst_dir_fd"))
    return seen


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no names there")
def test_each_name_is_on_the_disk_before_what_relies_on_it(tmp_path, monkeypatch):
    """A power cut takes names that no fsync of their directory has written."""
    (tmp_path / "run").mkdir()
    parent = str(tmp_path / "run")
    with Folder(tmp_path / "run") as folder:
        seen = _calls(monkeypatch)
        save_checkpoint(folder, 1, {"w": np.zeros(3)}, {}, keep=1)
        written = list(seen)
        seen.clear()
        folder.write("config.json", b"{}")
    (made,) = (path for call, _, path in written if call == "mkdir")
    inside = f"{parent}/{made}"
    # The directory's name, then both files and the names of both, then its own name.
    assert written == [
        ("mkdir", parent, made),
        ("fsync", parent, ""),
        ("fsync", f"{inside}/{STATE_FILE}", ""),
        ("fsync", f"{inside}/{MANIFEST_FILE}", ""),
        ("fsync", inside, ""),
        ("rename", parent, f"checkpoint-{1:012d}"),
        ("fsync", parent, ""),
    ]
    assert [call for call, *_ in seen] == ["fsync", "rename", "fsync"]
    assert [path for _, path, _ in seen[1:]] == [parent] * 2


REFUSE_PICKLE = """
import sys
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if "pickle" in event else None)
from pathlib import Path
from trpo.runs.checkpoint import CheckpointError, load_checkpoint
try:
    load_checkpoint(Path(sys.argv[1]))
except CheckpointError:
    print("refused")
else:
    print("loaded")
import pickle, marshal
assert seen == [], seen
assert not Path(sys.argv[2]).exists()
pickle.loads(pickle.dumps(Path))  # The hook does see one.
assert "pickle.find_class" in seen
"""


@pytest.fixture
def saved(tmp_path):
    return save_checkpoint(
        tmp_path / "run", 1, {"w": np.ones(4, np.float32)}, {"seed": 0}, keep=1
    )


@pytest.mark.parametrize("where", ["nowhere", STATE_FILE, MANIFEST_FILE])
def test_nothing_is_ever_unpickled(saved, tmp_path, where):
    touched = tmp_path / "touched"
    payload = pickle.dumps(Touch(touched))
    if where == STATE_FILE:
        forge(saved, payload)
    elif where == MANIFEST_FILE:
        (saved / where).write_bytes(payload)
    result = subprocess.run(
        [sys.executable, "-c", REFUSE_PICKLE, str(saved), str(touched)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ("loaded\n" if where == "nowhere" else "refused\n")


def header(text: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text) if length is None else length) + text + data


TENSOR = '{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        header("{}", length=10 * 2**30),
        header("{}", length=2**64 - 1),
        header("{" * 1000),
        header(b"\xff\xfe"),
        header(TENSOR),
        header(TENSOR, bytes(17)),
        header(TENSOR.replace("16", "9999999999999"), bytes(16)),
        header(TENSOR.replace("[4]", "[4611686018427387904, 4]"), bytes(16)),
        header(TENSOR.replace("F32", "BF16").replace("[4]", "[8]"), bytes(16)),
        header(TENSOR.replace("F32", "OBJECT"), bytes(16)),
        header(TENSOR.replace("0,16", "-1,16"), bytes(16)),
        header(TENSOR[:-1] + "," + TENSOR[1:], bytes(16)),
        safetensors.numpy.save({"x": np.ones(4, np.float32)}),
        safetensors.numpy.save({"w": np.ones(4)}),
        safetensors.numpy.save({"w": np.ones((2, 2), np.float32)}),
    ],
)
def test_states_made_to_do_harm_are_refused(saved, content):
    forge(saved, content)
    with pytest.raises(CheckpointError, match=STATE_FILE):
        load_checkpoint(saved)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(saved, number):
    arrays = {"w": np.array([0, 1, number, 3], dtype=np.float32)}
    forge(saved, safetensors.numpy.save(arrays), tensors=describe(arrays))
    with pytest.raises(CheckpointError, match=r"'w'.*finite"):
        load_checkpoint(saved)
    arrays["w"][2] = 2.0
    forge(saved, safetensors.numpy.save(arrays), tensors=describe(arrays))
    assert load_checkpoint(saved).arrays["w"].tolist() == [0, 1, 2, 3]
