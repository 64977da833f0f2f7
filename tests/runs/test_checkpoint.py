"""Checkpoints are whole or refused, whatever happens to the disk or the process."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from trpo.common.tensors import encode_manifest, sha256
from trpo.runs.checkpoint import (
    MANIFEST_FILE,
    STATE_FILE,
    CheckpointError,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)


def some_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "policy.layers.0.weight": generator.standard_normal((4, 3)).astype(np.float32),
        "policy.layers.1.weight": generator.standard_normal((4, 3)).astype(np.float32),
        "value.bias": generator.standard_normal(3),
        "transposed": generator.standard_normal((2, 5)).T,
        "big_endian": generator.standard_normal(3).astype(">f8"),
        "count": np.array(2**53 + 1, dtype=np.int64),
        "scalar": np.array(0.1),
        "flags": np.array([True, False]),
        "flag": np.array(True),
        "bytes": np.array([0, 255], dtype=np.uint8),
        "words": np.array([0, 2**32 - 1], dtype=np.uint32),
        "none": np.zeros((0, 3), dtype=np.float32),
    }


def save(directory: Path, step: int = 7, keep: int = 3, seed: int = 0) -> Path:
    return save_checkpoint(directory, step, some_arrays(seed), {"seed": seed}, keep)


def rewrite_manifest(path: Path, **changes) -> None:
    """Change fields of a manifest and give it a right checksum again: a forgery."""
    manifest = json.loads((path / MANIFEST_FILE).read_bytes()) | changes
    del manifest["manifest_sha256"]
    (path / MANIFEST_FILE).write_bytes(encode_manifest(manifest))


def forge_state(path: Path, content: bytes) -> None:
    (path / STATE_FILE).write_bytes(content)
    rewrite_manifest(path, state_sha256=sha256(content))


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_round_trip_is_exact(tmp_path):
    arrays = some_arrays()
    metadata = {"config": {"sizes": (64, 64), "lr": 1e-5}, "text": "θ", 10: 1, 9: None}
    path = save_checkpoint(tmp_path / "deep" / "er", 123, arrays, metadata, keep=1)
    assert path == tmp_path / "deep" / "er" / "checkpoint-000000000123"
    assert names(path) == [MANIFEST_FILE, STATE_FILE]
    loaded = load_checkpoint(path)
    assert (loaded.path, loaded.step) == (path, 123)
    assert loaded.metadata == json.loads(json.dumps(metadata))
    assert list(loaded.arrays) == sorted(arrays, key=list(loaded.arrays).index)
    for name, array in arrays.items():
        assert loaded.arrays[name].shape == array.shape, name
        assert loaded.arrays[name].dtype == array.dtype.newbyteorder("="), name
        assert (
            loaded.arrays[name].tobytes()
            == array.astype(array.dtype.newbyteorder("=")).tobytes()
        )
        assert loaded.arrays[name].flags.writeable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrays": {"w": np.array([1.0, np.nan])}}, "'w'"),
        ({"arrays": {"w": np.array([np.inf], dtype=np.float32)}}, "'w'"),
        ({"arrays": {"w": np.array([object()])}}, "'w'"),
        ({"arrays": {"w": np.array(["text"])}}, "'w'"),
        ({"arrays": {"__metadata__": np.zeros(1)}}, "__metadata__"),
        ({"arrays": {3: np.zeros(1)}}, "`arrays`.*3"),
        ({"metadata": {"f": print}}, "`metadata`"),
        ({"metadata": {"loss": float("nan")}}, "`metadata`"),
        ({"keep": 0}, "`keep`"),
        ({"step": -1}, "`step`"),
        ({"step": 10**12}, "`step`"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, change, message):
    before = save(tmp_path, step=1)
    arguments = {"step": 2, "arrays": some_arrays(), "metadata": {}, "keep": 1}
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path, **(arguments | change))
    assert names(tmp_path) == [before.name]


def test_older_ones_are_pruned_and_newer_ones_are_not(tmp_path):
    for step in (10, 20, 30, 40):
        save(tmp_path, step=step, keep=2)
    assert [name[-2:] for name in names(tmp_path)] == ["30", "40"]
    # A run that was resumed from step 30 since 40 is broken must keep what it writes.
    (tmp_path / "checkpoint-000000000040" / STATE_FILE).unlink()
    save(tmp_path, step=35, keep=1)
    assert [name[-2:] for name in names(tmp_path)] == ["35", "40"]
    checkpoint, errors = newest_checkpoint(tmp_path)
    assert checkpoint.step == 35
    assert "000040" in str(errors[0])


def test_same_step_twice_keeps_the_second(tmp_path):
    save(tmp_path, seed=1)
    path = save(tmp_path, seed=2)
    assert names(tmp_path) == [path.name]
    assert load_checkpoint(path).metadata == {"seed": 2}


def test_leftovers_are_ignored_by_a_scan_and_swept_by_a_save(tmp_path):
    path = save(tmp_path, step=5)
    shutil.copytree(path, tmp_path / ".tmp-checkpoint-000000000009")
    (tmp_path / ".tmp-half" / "deeper").mkdir(parents=True)
    (tmp_path / "checkpoint-backup").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    before = names(tmp_path)
    checkpoint, errors = newest_checkpoint(tmp_path)
    assert (checkpoint.step, errors, names(tmp_path)) == (5, [], before)
    save(tmp_path, step=6)
    # What is not named as a save names it is the user's own.
    assert names(tmp_path) == [
        ".tmp-half",
        path.name,
        "checkpoint-000000000006",
        "checkpoint-backup",
        "notes.txt",
    ]


def test_killed_between_the_renames_of_a_replacement(tmp_path):
    path = save(tmp_path, step=5, seed=1)
    path.rename(tmp_path / f".old-{path.name}")
    assert newest_checkpoint(tmp_path)[0].metadata == {"seed": 1}
    save(tmp_path, step=4, keep=2)
    assert names(tmp_path) == ["checkpoint-000000000004", path.name]
    # Killed after them: the replaced one must not come back once the new one is gone.
    shutil.copytree(path, tmp_path / f".old-{path.name}")
    save(tmp_path, step=6, keep=1)
    assert names(tmp_path) == ["checkpoint-000000000006"]


def test_newest_valid_one_wins_and_broken_ones_are_named(tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, step=step, keep=9)
    (tmp_path / "checkpoint-000000000004" / MANIFEST_FILE).write_text("{")
    (tmp_path / "checkpoint-000000000003").rename(tmp_path / "checkpoint-000000000007")
    checkpoint, errors = newest_checkpoint(tmp_path)
    assert checkpoint.step == 2
    assert ["000007" in str(errors[0]), "000004" in str(errors[1])] == [True, True]
    assert "step 3" in str(errors[0])


def test_no_valid_one_says_what_to_do(tmp_path):
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match=r"no valid checkpoint.*Restore"):
            newest_checkpoint(directory)
    path = save(tmp_path)
    (path / STATE_FILE).unlink()
    with pytest.raises(CheckpointError, match=f"(?s)Restore.*{STATE_FILE}: can't be"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("name", [STATE_FILE, MANIFEST_FILE])
def test_every_truncation_and_growth_is_refused(tmp_path, name):
    path = save(tmp_path)
    content = (path / name).read_bytes()
    sizes = {0, 1, 7, 8, 9, 64, *range(0, len(content), 31), len(content) - 1}
    for damaged in [content[:size] for size in sorted(sizes)] + [content + b"\0"]:
        (path / name).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(path)
    (path / name).write_bytes(content)
    load_checkpoint(path)


@pytest.mark.parametrize("name", [STATE_FILE, MANIFEST_FILE])
def test_every_flipped_bit_is_refused(tmp_path, name):
    path = save(tmp_path)
    content = (path / name).read_bytes()
    # Every byte: length, header, padding and data; keys, digits, spaces and brackets.
    for i in range(len(content)):
        damaged = bytearray(content)
        damaged[i] ^= 1 << (i % 8)
        (path / name).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(path)


def test_missing_parts_are_refused(tmp_path):
    path = save(tmp_path)
    with pytest.raises(CheckpointError, match=r"absent.*can't be read"):
        load_checkpoint(tmp_path / "absent")
    (path / MANIFEST_FILE).rename(path / "elsewhere.json")
    with pytest.raises(CheckpointError, match=f"{MANIFEST_FILE}.*can't be read"):
        load_checkpoint(path)


def test_links_and_pipes_are_not_followed(tmp_path):
    path, outside = save(tmp_path / "run"), tmp_path / "outside"
    shutil.move(path / STATE_FILE, outside)
    (path / STATE_FILE).symlink_to(outside)
    with pytest.raises(CheckpointError, match=f"{STATE_FILE}: .* got a link"):
        load_checkpoint(path)
    (path / STATE_FILE).unlink()
    os.mkfifo(path / STATE_FILE)
    with pytest.raises(CheckpointError, match=f"{STATE_FILE}: .*a regular file"):
        load_checkpoint(path)


def test_a_path_in_the_manifest_leads_nowhere(tmp_path):
    path = save(tmp_path / "run")
    (tmp_path / "secret").write_text("x")
    rewrite_manifest(path, state_file="../../secret", file="/etc/passwd")
    assert load_checkpoint(path).path == path  # Nothing reads such a field.
    tensors = json.loads((path / MANIFEST_FILE).read_bytes())["tensors"]
    rewrite_manifest(path, tensors=tensors | {"../../secret": tensors["scalar"]})
    with pytest.raises(CheckpointError, match=r"'\.\./\.\./secret'"):
        load_checkpoint(path)


def test_swapped_tensors_and_unequal_descriptions_are_refused(tmp_path):
    path = save(tmp_path)
    tensors = json.loads((path / MANIFEST_FILE).read_bytes())["tensors"]
    first, second = "policy.layers.0.weight", "policy.layers.1.weight"
    swapped = tensors | {first: tensors[second], second: tensors[first]}
    others = {
        "shape": tensors[first] | {"shape": [3, 4]},
        "dtype": tensors[first] | {"dtype": "float64"},
        "sha256": tensors[first] | {"sha256": "0" * 64},
        "kind": "text",
        "nothing": None,
    }
    absent = {name: tensors[name] for name in tensors if name != first}
    for forged in (swapped, absent, *(tensors | {first: o} for o in others.values())):
        rewrite_manifest(path, tensors=forged)
        with pytest.raises(CheckpointError, match=first):
            load_checkpoint(path)
    rewrite_manifest(path, tensors=tensors)
    load_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        {"step": True},
        {"step": -1},
        {"step": 10**12},
        {"step": 2**63},
        {"format_version": "1"},
        {"format_version": True},
        {"step": "7"},
        {"metadata": []},
        {"tensors": None},
        {"state_sha256": 3},
        {"format_version": 2},
        {"format_version": None},
    ],
)
def test_forged_fields_are_refused(tmp_path, change):
    path = save(tmp_path)
    rewrite_manifest(path, **change)
    with pytest.raises(CheckpointError, match=MANIFEST_FILE):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["", "3", "[]", "null", "[" * 100_000, "NaN", "\xff"])
def test_other_json_is_refused(tmp_path, text):
    path = save(tmp_path)
    (path / MANIFEST_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=MANIFEST_FILE):
        load_checkpoint(path)


HUGE = {
    "a shape of more numbers than bytes": {"shape": [2**62] * 32},
    "a shape of many dimensions": {"shape": [10**9] * 10**5},
    "a length below 0": {"shape": [-1]},
    "half a length": {"shape": [1.5]},
    "a length that is a name": {"shape": ["3"]},
    "no shape": {"shape": None},
    "another dtype": {"dtype": "float128"},
    "a dtype of many fields": {"dtype": "f8," * 10**5},
    "a dtype that is a list": {"dtype": ["float32"]},
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_tensor_s_description_is_checked_before_its_state_is_read(tmp_path, kind):
    path = save(tmp_path)
    tensors = json.loads((path / MANIFEST_FILE).read_bytes())["tensors"]
    forged = tensors | {"scalar": tensors["scalar"] | HUGE[kind]}
    rewrite_manifest(path, tensors=forged)
    (path / STATE_FILE).unlink()  # Else it would be read as the manifest says.
    with pytest.raises(CheckpointError, match=r"scalar|can't be read") as error:
        load_checkpoint(path)
    assert len(str(error.value)) < 1000


def test_a_state_larger_than_the_memory_is_not_read(tmp_path):
    path = save(tmp_path)
    tensors = json.loads((path / MANIFEST_FILE).read_bytes())["tensors"]
    size = 2**50
    forged = tensors["scalar"] | {"shape": [size], "dtype": "uint8"}
    rewrite_manifest(path, tensors={"w": forged})
    os.truncate(path / STATE_FILE, 2**41)  # Of which the disk has nothing.
    with pytest.raises(CheckpointError, match=rf"{STATE_FILE}: expected .* at most"):
        load_checkpoint(path)


def test_what_is_wrong_with_many_is_one_short_line(tmp_path):
    for step in range(50):
        (tmp_path / f"checkpoint-{step:012d}").mkdir()
    with pytest.raises(CheckpointError, match=r"no valid.*000049.*000047") as error:
        newest_checkpoint(tmp_path)
    assert "\n" not in str(error.value)
    assert "000046" not in str(error.value)


def test_a_checkpoint_of_one_step_is_found_behind_newer_ones(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step=step, keep=9)
    assert newest_checkpoint(tmp_path, 2)[0].step == 2
    with pytest.raises(CheckpointError, match="no valid checkpoint of step 4"):
        newest_checkpoint(tmp_path, 4)
