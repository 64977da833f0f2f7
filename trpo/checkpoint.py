"""Durable checkpoints: safetensors and a JSON manifest, whole or not there at all.

No pickle anywhere, so loading a checkpoint can't run code. One process at a time writes
to a directory; any number may read it meanwhile.
"""

import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from trpo.state_check import DTYPES
from trpo.validation import require_count


FORMAT_VERSION = 1
STATE_FILE, MANIFEST_FILE = "state.safetensors", "manifest.json"

# Of a manifest, and of a state besides its numbers, in bytes.
LARGEST_HEADER = 16 * 2**20

# Being written or deleted: never read, swept by the next save.
_TEMPORARY = ".tmp-"
# Stepped aside for a new one of its own step: read as long as that is not there.
_REPLACED = ".old-"
_NAME = re.compile(rf"(?:{re.escape(_REPLACED)})?checkpoint-([0-9]{{12}})")
_Arrays = Mapping[str, np.ndarray]
_FIELDS = {"step": int, "metadata": dict, "tensors": dict, "state_sha256": str}


class CheckpointError(ValueError):
    """A checkpoint is broken or missing; the message names the file and the reason."""


class Checkpoint(NamedTuple):
    """A checkpoint that was read whole and checked.

    Attributes:
        path: its folder.
        step: environment steps taken when it was saved.
        arrays: name -> array, of the shapes and dtypes that were saved.
        metadata: what was saved beside them, as JSON keeps it (tuples become lists).
    """

    path: Path
    step: int
    arrays: dict[str, np.ndarray]
    metadata: dict


def save_checkpoint(
    directory: Path, step: int, arrays: _Arrays, metadata: dict, keep: int
) -> Path:
    """Write `directory`/checkpoint-<step>; what it returns survives a power cut.

    Args:
        directory: Folder of all checkpoints of a run; made if it is not there.
        step: Environment steps so far; a checkpoint of the same step is replaced.
        arrays: Name -> array of one of `state_check.DTYPES`, every number finite.
        metadata: Anything that JSON can hold.
        keep: Newest checkpoints to keep; older ones go once this one is safe. Those of
            a later step, which a run resumed from an older one may meet, stay.

    Raises:
        ValueError: an argument can't be saved and loaded again; nothing has changed.
        OSError: the disk refused; the older checkpoints are as they were.
    """
    require_count("keep", keep)
    require_count("step", step, minimum=0)
    if step >= 10**12:
        raise ValueError(f"`step`: expected at most 12 digits, got {step}.")
    arrays = {name: _saveable(name, array) for name, array in arrays.items()}
    state = safetensors.numpy.save(arrays)
    manifest = {"format_version": FORMAT_VERSION, "step": int(step)}
    manifest |= {"metadata": metadata, "tensors": _describe(arrays)}
    encoded = _encode_manifest({**manifest, "state_sha256": _sha256(state)})
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _sweep(directory)
    final = directory / f"checkpoint-{step:012d}"
    temporary = directory / f"{_TEMPORARY}{final.name}"
    try:
        temporary.mkdir()
        for name, content in ((STATE_FILE, state), (MANIFEST_FILE, encoded)):
            (temporary / name).write_bytes(content)
            _sync(temporary / name)
        _sync(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if final.exists():
        # A folder can't be renamed over a full one.
        os.rename(final, directory / f"{_REPLACED}{final.name}")
    os.rename(temporary, final)
    _sync(directory)
    _sync(directory.parent)
    for path in [path for other, path in _scan(directory) if other <= step][keep:]:
        # Renamed first: a half-deleted checkpoint is never seen under its name.
        os.rename(path, directory / f"{_TEMPORARY}{path.name}")
    _sweep(directory)
    return final


def load_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint in the folder `path`, all of it or nothing.

    Raises:
        CheckpointError: something about it is not as it was saved.
    """
    path = Path(path)
    manifest = _read_manifest(path / MANIFEST_FILE)
    arrays = _read_state(path / STATE_FILE, manifest)
    return Checkpoint(path, manifest["step"], arrays, manifest["metadata"])


def newest_checkpoint(directory: Path) -> tuple[Checkpoint, list[CheckpointError]]:
    """The newest valid checkpoint in `directory`, and what is wrong with newer ones.

    Writes nothing, so it may run beside a training run and on a read-only disk.

    Raises:
        CheckpointError: there is no valid one; the message says what to do.
    """
    errors, seen = [], None
    # A training run may prune what was listed before it is read: then list again.
    while seen != (found := _scan(Path(directory))):
        errors, seen = [], found
        for step, path in found:
            try:
                checkpoint = load_checkpoint(path)
                if checkpoint.step != step:
                    raise CheckpointError(f"{path}: is of step {checkpoint.step}.")
                return checkpoint, errors
            except CheckpointError as error:
                errors.append(error)
    advice = "Restore one from a backup, or start again in a new run directory."
    reasons = [f"{directory}: no valid checkpoint. {advice}", *map(str, errors)]
    raise CheckpointError("\n  ".join(reasons))


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file; whoever is killed meanwhile leaves the old one or the new."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    temporary.write_bytes(content)
    _sync(temporary)
    os.replace(temporary, path)
    _sync(path.parent)


def _saveable(name: str, array: np.ndarray) -> np.ndarray:
    """A contiguous copy in native byte order: safetensors writes raw memory."""
    if not isinstance(name, str) or name in ("", "__metadata__"):
        raise ValueError(f"`arrays`: expected names that are text, got {name!r}.")
    array = np.asarray(array)
    if array.dtype.name not in DTYPES or not np.isfinite(array).all():
        raise ValueError(
            f"`arrays[{name!r}]`: expected finite {', '.join(DTYPES)}, got {array!r}."
        )
    # Not np.ascontiguousarray, which turns shape () into (1,).
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def _describe(arrays: _Arrays) -> dict[str, dict]:
    return {
        name: {
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "sha256": _sha256(array.tobytes()),
        }
        for name, array in arrays.items()
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _encode_manifest(manifest: dict[str, Any]) -> bytes:
    """The one encoding of a manifest, with its own checksum in it."""
    try:
        # Twice: keys that are numbers become text, and then are sorted as text.
        text = json.dumps(json.loads(json.dumps(manifest)), sort_keys=True)
        whole = {**json.loads(text), "manifest_sha256": _sha256(text.encode())}
        return json.dumps(whole, sort_keys=True, allow_nan=False, indent=1).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"`metadata`: expected what JSON can hold: {error}.") from None


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(directory: Path) -> None:
    """Undo what a killed save left: leftovers go, a checkpoint set aside returns."""
    # Failure to delete is no reason to stop a run: the next save tries again.
    for leftover in directory.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for aside in directory.glob(f"{_REPLACED}*"):
        final = directory / aside.name.removeprefix(_REPLACED)
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.rename(aside, final)


def _scan(directory: Path) -> list[tuple[int, Path]]:
    """Step and folder of each checkpoint, newest first, broken or not."""
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    names -= {f"{_REPLACED}{name}" for name in names}
    matches = map(_NAME.fullmatch, names)
    found = [(int(match[1]), directory / match[0]) for match in matches if match]
    return sorted(found, reverse=True)


def _read(path: Path, limit: int) -> bytes:
    try:
        # A link could name any file of the machine, and a pipe never ends.
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path}: not a regular file.")
        if status.st_size > limit:
            raise CheckpointError(
                f"{path}: expected {limit} bytes at most, got {status.st_size}."
            )
        with path.open("rb") as file:
            return file.read(status.st_size)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror}.") from error


def _read_manifest(path: Path) -> dict[str, Any]:
    content = _read(path, LARGEST_HEADER)
    try:
        manifest = json.loads(content)
        manifest.pop("manifest_sha256", None)
        encoded = _encode_manifest(manifest)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a JSON manifest: {error}.") from None
    if (version := manifest.get("format_version")) != FORMAT_VERSION:
        raise CheckpointError(f"{path}: unknown format version {version!r}.")
    # A manifest has one encoding, so no changed byte goes unnoticed.
    if encoded != content:
        raise CheckpointError(f"{path}: damaged: its checksum does not match.")
    if any(type(manifest.get(name)) is not kind for name, kind in _FIELDS.items()):
        raise CheckpointError(f"{path}: expected the fields {', '.join(_FIELDS)}.")
    return manifest


def _largest_state(tensors: dict[str, Any]) -> int:
    """Bytes that a state of these tensors has at most, so that no more are read."""
    try:
        sizes = [
            math.prod(tensor["shape"]) * np.dtype(tensor["dtype"]).itemsize
            for tensor in tensors.values()
        ]
        return LARGEST_HEADER + int(sum(sizes))
    except (TypeError, KeyError, ValueError):
        return LARGEST_HEADER  # Which of them is wrong is said when they are compared.


def _read_state(path: Path, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    content = _read(path, _largest_state(manifest["tensors"]))
    if _sha256(content) != manifest["state_sha256"]:
        raise CheckpointError(f"{path}: damaged: its SHA-256 does not match.")
    try:
        arrays = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not safetensors: {error}.") from error
    found, expected = _describe(arrays), manifest["tensors"]
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            raise CheckpointError(
                f"{path}: tensor {name!r}: expected {expected.get(name)}, "
                f"got {found.get(name)}."
            )
        if not np.isfinite(arrays[name]).all():
            raise CheckpointError(f"{path}: tensor {name!r}: has numbers not finite.")
    return arrays
