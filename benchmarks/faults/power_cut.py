"""A power cut after any system call of a save, by a model of what a disk has by then.

A process that is killed leaves all that it wrote in the system's cache, so kill -9
can't tell whether `fsync` is called. Here every call of a save is recorded, and for
each moment a disk is made that has lost as much as it may: the content of a file that
was not synchronised, and a folder's entries since it was.
"""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.faults.checkpoints import scratch
from benchmarks.faults.row import Row, Scenario, require
from trpo.runs.checkpoint import newest_checkpoint, save_checkpoint


class Disk:
    """What a recorded process did: (call, argument, argument), in order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal: list[tuple] = []

    def name(self, name: object, folder: int | None = None) -> str:
        """A path below the root, as text; `folder` is a descriptor that it is in."""
        path = Path(str(name)).absolute() if folder is None else _path_of(folder)
        path = path if folder is None else path / str(name)
        return str(path.relative_to(self.root.parent))

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record calls that change folders and files."""
        with contextlib.ExitStack() as stack:
            for call, note in (
                ("open", self._opened),
                ("write", self._written),
                ("fsync", self._synced),
                ("rename", self._renamed),
                ("mkdir", self._made),
                ("unlink", self._removed),
                ("rmdir", self._removed),
            ):
                stack.enter_context(self._recorded(call, note))
            yield

    def _recorded(self, call: str, note: Callable[..., tuple | None]) -> Any:
        """Have an `os` function write down what `note` makes of its arguments."""
        real = getattr(os, call)

        def do(*arguments: Any, **folders: Any) -> Any:
            result = real(*arguments, **folders)
            if (entry := note(*arguments, **folders)) is not None:
                self.journal.append((*entry, None)[:3])
            return result

        return mock.patch.object(os, call, do)

    def _opened(
        self, path: Any, flags: int, *_: Any, dir_fd: int | None = None
    ) -> tuple | None:
        return ("write", self.name(path, dir_fd), b"") if flags & os.O_CREAT else None

    def _written(self, descriptor: int, content: bytes) -> tuple:
        return "write", self.name(_path_of(descriptor)), bytes(content)

    def _synced(self, descriptor: int) -> tuple | None:
        path = _path_of(descriptor)
        inside = path.is_relative_to(self.root.parent)
        return ("sync", self.name(path)) if inside else None

    def _renamed(self, old: str, new: str, src_dir_fd: int, dst_dir_fd: int) -> tuple:
        return "rename", self.name(old, src_dir_fd), self.name(new, dst_dir_fd)

    def _made(self, path: Any, *_: Any, dir_fd: int | None = None) -> tuple:
        return "mkdir", self.name(path, dir_fd)

    def _removed(self, path: Any, *, dir_fd: int) -> tuple:
        return "remove", self.name(path, dir_fd)


def _path_of(descriptor: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


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
