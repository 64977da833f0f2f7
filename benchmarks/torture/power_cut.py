"""A power cut after any system call of a save, by a model of what a disk has by then.

A process that is killed leaves all that it wrote in the system's cache, so kill -9
can't tell whether `fsync` is called. Here every call of a save is recorded, and for
each moment a disk is made that has lost as much as it may: the content of a file that
was not synchronised, and a folder's entries since it was.
"""

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.torture.checkpoints import scratch
from benchmarks.torture.rows import Row, Scenario, require
from trpo.checkpoint import newest_checkpoint, save_checkpoint


class Disk:
    """What a recorded process did: (call, argument, argument), in order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal: list[tuple] = []

    def name(self, path: object) -> str:
        """A path below the root, as text."""
        return str(Path(str(path)).relative_to(self.root.parent))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record calls that change folders and files."""
        rename, fsync, opening = os.rename, os.fsync, os.open
        mkdir, write, rmtree = Path.mkdir, Path.write_bytes, shutil.rmtree
        opened: dict[int, str] = {}

        def do_open(path: object, *rest: int) -> int:
            descriptor = opening(path, *rest)  # pyright: ignore[reportArgumentType]
            opened[descriptor] = str(path)
            return descriptor

        def do_rename(old: object, new: object) -> None:
            rename(old, new)  # pyright: ignore[reportArgumentType]
            self.journal.append(("rename", self.name(old), self.name(new)))

        def do_sync(descriptor: int) -> None:
            fsync(descriptor)
            if Path(opened[descriptor]).is_relative_to(self.root.parent):
                self.journal.append(("sync", self.name(opened[descriptor]), None))

        def do_mkdir(path: Path, *a: object, **k: object) -> None:
            new = [] if path.exists() else [("mkdir", self.name(path), None)]
            mkdir(path, *a, **k)  # pyright: ignore[reportArgumentType]
            self.journal.extend(new)

        def do_write(path: Path, content: bytes) -> int:
            self.journal.append(("write", self.name(path), content))
            return write(path, content)

        def do_rmtree(path: object, **k: object) -> None:
            self.journal.append(("remove", self.name(path), None))
            rmtree(path, **k)  # pyright: ignore

        with (
            mock.patch.object(os, "rename", do_rename),
            mock.patch.object(os, "fsync", do_sync),
            mock.patch.object(os, "open", do_open),
            mock.patch.object(Path, "mkdir", do_mkdir),
            mock.patch.object(Path, "write_bytes", do_write),
            mock.patch.object(shutil, "rmtree", do_rmtree),
        ):
            yield


def after_cut(journal: list[tuple], draw: random.Random) -> dict[str, bytes | None]:
    """Path -> content, None of a folder: one disk that a power cut may leave.

    Changes of folders reach the disk in their order, as a journalling file system
    writes them; how many of those since the last `fsync` of a folder, nobody knows.
    """
    kept, synced = _durable(journal)
    kept = draw.randint(kept, len(journal))
    files: dict[str, bytes | None] = {}
    for at, (call, name, other) in enumerate(journal[:kept]):
        if call == "mkdir":
            files[name] = None
        elif call == "write":
            files[name] = other if at in synced or draw.random() < 0.5 else b""
        elif call == "rename":
            _move(files, name, other)
        elif call == "remove":
            for path in _below(files, name):
                del files[path]
    return files


def _durable(journal: list[tuple]) -> tuple[int, set[int]]:
    """Calls up to a folder's last `fsync`, and the writes of files that had theirs."""
    # A file is the number of the call that wrote it: names come again.
    files: dict[str, int] = {}
    calls, synced = 0, set()
    for at, (call, name, other) in enumerate(journal):
        if call == "write":
            files[name] = at
        elif call == "rename":
            _move(files, name, other)
        elif call == "sync" and name in files:
            synced.add(files[name])
        elif call == "sync":
            calls = at
    return calls, synced


def _below(files: dict, name: str) -> list[str]:
    return [path for path in files if path == name or path.startswith(f"{name}/")]


def _move(files: dict, old: str, new: str) -> None:
    for path in _below(files, old):
        files[new + path[len(old) :]] = files.pop(path)


def cut(row: Row) -> None:
    """Three saves, one of them of a step that is there already, cut at any call."""
    draw = random.Random(4)
    with scratch() as root:
        work = root / "work"
        work.mkdir()
        disk, ends = Disk(work / "checkpoints"), []
        with disk.recording():
            for number, step in enumerate((1, 2, 2, 3), start=1):
                arrays = {"w": np.full(64, float(number))}
                save_checkpoint(disk.root, step, arrays, {"saves": number}, 1)
                ends.append(len(disk.journal))
        row.note = f"of {len(disk.journal)} system calls of four saves"
        for index in range(row.tries):
            at = draw.randint(1, len(disk.journal))
            acknowledged = sum(end <= at for end in ends)
            found = root / f"after-{index}"
            for name, content in sorted(after_cut(disk.journal[:at], draw).items()):
                path = found / name
                if content is None:
                    path.mkdir(parents=True, exist_ok=True)
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
            with row.attempt(f"cut after call {at}"):
                if acknowledged:
                    checkpoint, _ = newest_checkpoint(found / "checkpoints")
                    saves = checkpoint.metadata["saves"]
                    require(saves >= acknowledged, f"{saves} < {acknowledged}")
                    same = (checkpoint.arrays["w"] == saves).all()
                    require(same, "numbers of another save")
            shutil.rmtree(found, ignore_errors=True)


SCENARIOS = [Scenario("checkpoint", "power cut after a system call", 2000, cut)]
