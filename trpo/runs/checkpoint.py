"""Durable checkpoints: safetensors and a JSON manifest, whole or not there at all.

No pickle anywhere, so loading a checkpoint can't run code. One process at a time writes
to a directory; any number may read it meanwhile.
"""

import contextlib
import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from trpo.common.closing import noting_failure
from trpo.common.files import TEMPORARY, FileError, Folder, opened
from trpo.common.formats import CHECKPOINT, REMOVED_STATE, numbered, translated
from trpo.common.tensors import (
    LARGEST_HEADER,
    Arrays,
    decode_arrays,
    decode_manifest,
    describe,
    encode_manifest,
    saveable,
    sha256,
)
from trpo.common.validation import DTYPES, require_count, shown
from trpo.config.choices import LARGEST_STEP


STATE_FILE, MANIFEST_FILE = "state.safetensors", "manifest.json"

# Of an array of NumPy 1.
MOST_DIMENSIONS = 32

# Stepped aside for a new one of its own step: read as long as that is not there.
_REPLACED = ".old-"
_NAME = re.compile(
    rf"({re.escape(TEMPORARY)}|{re.escape(_REPLACED)}|)(checkpoint-([0-9]{{12}}))"
)
_FILES = (STATE_FILE, MANIFEST_FILE)
_ABSENT = (FileNotFoundError, NotADirectoryError)
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
    metadata: dict[str, Any]


def save_checkpoint(
    directory: Path | Folder,
    step: int,
    arrays: Arrays,
    metadata: dict[str, Any],
    keep: int | None,
) -> Path:
    """Write `directory`/checkpoint-<step>; what it returns survives a power cut.

    Args:
        directory: Folder of all checkpoints of a run; made if it is not there.
        step: Environment steps so far; a checkpoint of the same step is replaced.
        arrays: Name -> array of one of `state_check.DTYPES`, every number finite.
        metadata: Anything that JSON can hold.
        keep: See `prune_checkpoints`, which is called at once; None leaves it to the
            caller.

    Raises:
        ValueError: an argument can't be saved and loaded again; nothing has changed.
            Or a name in the directory is taken by what is no checkpoint.
        OSError: the disk refused; the older checkpoints are as they were.
    """
    if keep is not None:
        require_count("keep", keep)
    state, encoded = encode_checkpoint(step, arrays, metadata)
    final = f"checkpoint-{step:012d}"
    temporary = f"{TEMPORARY}{final}"
    with opened(directory, make=True) as folder:
        _sweep(folder)
        try:
            with folder.folder(temporary, make=True) as new:
                new.put(STATE_FILE, state)
                new.put(MANIFEST_FILE, encoded)
                new.sync()
        except BaseException as cause:
            with noting_failure(cause):
                folder.discard(temporary, _FILES)
            raise
        if folder.has(final):
            # A folder can't be renamed over a full one.
            folder.rename(final, f"{_REPLACED}{final}")
        folder.rename(temporary, final)
        folder.sync()
        if keep is not None:
            prune_checkpoints(folder, step, keep)
        return folder.path / final


def encode_checkpoint(
    step: int, arrays: Arrays, metadata: dict[str, Any]
) -> tuple[bytes, bytes]:
    """The state and the manifest that `save_checkpoint` writes.

    Raises:
        ValueError: an argument can't be saved and loaded again.
    """
    require_count("step", step, 0, LARGEST_STEP)
    arrays = {name: saveable(name, array) for name, array in arrays.items()}
    state = safetensors.numpy.save(arrays)
    manifest = numbered(CHECKPOINT, {"step": int(step), "metadata": metadata})
    manifest |= {"tensors": describe(arrays)}
    encoded = encode_manifest({**manifest, "state_sha256": sha256(state)})
    if len(encoded) > LARGEST_HEADER:
        raise ValueError(
            f"`metadata`: expected at most {LARGEST_HEADER:,} bytes of it and the "
            f"arrays' names, got {len(encoded):,}, which no reader takes."
        )
    return state, encoded


def prune_checkpoints(directory: Path | Folder, step: int, keep: int) -> None:
    """Keep the checkpoint of `step` and the `keep` - 1 before it; older ones go.

    Those of a later step, which a run resumed from an older one may meet, stay.
    """
    with opened(directory) as folder:
        older = [name for other, name in _scan(folder) if other <= step]
        _delete(folder, older[keep:])
        _sweep(folder)


def keep_checkpoint(directory: Path | Folder, step: int) -> None:
    """Delete all checkpoints but the one of `step`, those of later steps too."""
    with opened(directory) as folder:
        _delete(folder, [name for other, name in _scan(folder) if other != step])


def _delete(folder: Folder, names: list[str]) -> None:
    # Failure is no reason to stop a run: the next save tries again.
    for name in names:
        # Renamed first: a half-deleted checkpoint is never seen under its name.
        temporary = f"{TEMPORARY}{name.removeprefix(_REPLACED)}"
        with contextlib.suppress(OSError):
            folder.rename(name, temporary)
        folder.discard(temporary, _FILES)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint in the folder `path`, all of it or nothing.

    Raises:
        CheckpointError: something about it is not as it was saved.
    """
    path = Path(path)
    try:
        with Folder(path) as folder:
            return _load(folder)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror}.") from None


def _load(folder: Folder) -> Checkpoint:
    manifest = _read_manifest(folder)
    arrays = {
        name: array
        for name, array in _read_state(folder, manifest).items()
        if not name.startswith(REMOVED_STATE)
    }
    return Checkpoint(folder.path, manifest["step"], arrays, manifest["metadata"])


def newest_checkpoint(
    directory: Path | Folder, step: int | None = None
) -> tuple[Checkpoint, list[CheckpointError]]:
    """The newest valid checkpoint in `directory`, and what is wrong with newer ones.

    Writes nothing, so it may run beside a training run and on a read-only disk.

    Args:
        directory: Folder of all checkpoints of a run.
        step: That of this step alone will do; None for any.

    Raises:
        CheckpointError: there is no valid one; the message says what to do.
    """
    errors, seen = list[CheckpointError](), None
    try:
        with opened(directory) as folder:
            # A training run may prune what was listed before it is read: list again.
            while seen != (checkpoints := _scan(folder)):
                errors, seen = [], checkpoints
                for number, name in checkpoints:
                    if step not in (None, number):
                        continue
                    try:
                        return _load_step(folder, number, name), errors
                    except (OSError, ValueError) as error:
                        errors.append(CheckpointError(str(error)))
    except OSError as error:
        errors = [CheckpointError(f"({error.strerror})")]
    path = directory.path if isinstance(directory, Folder) else directory
    advice = "Restore one from a backup, or start again in a new run directory."
    of_step = "" if step is None else f" of step {step:,}"
    if step is not None and seen:
        advice = f"There are those of {', '.join(f'{n:,}' for n, _ in seen)}."
    reasons = [f"{path}: no valid checkpoint{of_step}. {advice}", *map(str, errors[:3])]
    raise CheckpointError(" ".join(reasons))


def _load_step(folder: Folder, step: int, name: str) -> Checkpoint:
    with folder.folder(name) as inside:
        checkpoint = _load(inside)
    if checkpoint.step != step:
        raise CheckpointError(f"{checkpoint.path}: is of step {checkpoint.step}.")
    return checkpoint


def has_checkpoint(directory: Path | Folder) -> bool:
    """Whether one was ever saved there, valid or not."""
    with contextlib.suppress(*_ABSENT), opened(directory) as folder:
        return bool(_scan(folder))
    return False


def _sweep(folder: Folder) -> None:
    """Undo what a killed save left: leftovers go, a checkpoint set aside returns.

    What the user keeps there stays.
    """
    names = folder.names()
    # From the last: what is half deleted goes before others take its name.
    for match in filter(None, map(_NAME.fullmatch, reversed(names))):
        name, prefix, final = match[0], match[1], match[2]
        if prefix == _REPLACED and final not in names:
            folder.rename(name, final)
        elif prefix == _REPLACED:
            _delete(folder, [name])
        elif prefix:
            folder.discard(name, _FILES)


def _scan(folder: Folder) -> list[tuple[int, str]]:
    """Step and name of each checkpoint, newest first, broken or not."""
    names = folder.names()
    checkpoints = [
        (int(match[3]), match[0])
        for match in filter(None, map(_NAME.fullmatch, names))
        if not match[1] or (match[1] == _REPLACED and match[2] not in names)
    ]
    return sorted(checkpoints, reverse=True)


def _read(folder: Folder, name: str, limit: int) -> bytes:
    try:
        return folder.read(name, limit)
    except OSError as error:
        path = folder.path / name
        raise CheckpointError(f"{path}: can't be read: {error.strerror}.") from error
    except FileError as error:
        raise CheckpointError(str(error)) from error


def _read_manifest(folder: Folder) -> dict[str, Any]:
    path = folder.path / MANIFEST_FILE
    content = _read(folder, MANIFEST_FILE, LARGEST_HEADER)
    try:
        manifest = decode_manifest(content)
        manifest = translated(CHECKPOINT, manifest)
        for name, kind in _FIELDS.items():
            if type(value := manifest.get(name)) is not kind:
                raise ValueError(
                    f"`{name}`: expected {kind.__name__}, got {shown(value)}."
                )
        require_count("step", manifest["step"], 0, LARGEST_STEP)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return manifest


def _largest_state(folder: Folder, tensors: dict[str, Any]) -> int:
    """Bytes that a state of these tensors has at most, so that no more are read."""
    size = LARGEST_HEADER
    for name, tensor in tensors.items():
        shape: Any = None
        dtype: Any = None
        if isinstance(tensor, dict):
            shape, dtype = tensor.get("shape"), tensor.get("dtype")
        whole = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS
        if not (whole and dtype in DTYPES and all(map(_is_length, shape))):
            raise CheckpointError(
                f"{folder.path / MANIFEST_FILE}: tensor {shown(name)}: expected a "
                f"shape and a dtype, got {shown(tensor)}."
            )
        size += math.prod(shape) * np.dtype(dtype).itemsize
    # It is in memory twice, as bytes and as arrays.
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(size, memory // 2)


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _read_state(folder: Folder, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    path = folder.path / STATE_FILE
    content = _read(folder, STATE_FILE, _largest_state(folder, manifest["tensors"]))
    if sha256(content) != manifest["state_sha256"]:
        raise CheckpointError(f"{path}: damaged: its SHA-256 does not match.")
    try:
        return decode_arrays(content, manifest["tensors"])
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
