"""Files of a run directory, which a stranger may have made: no link is followed.

A link could name any file of the machine, a pipe never ends, and a name may hold a
file of any size. A `Folder` is held by descriptor, so that what was looked at is what
is written to; only the path that the user typed is followed where it is a link.
"""

import contextlib
import errno
import json
import math
import os
import shutil
import stat
from pathlib import Path
from typing import IO, Any, Self


# Of a text file that the project writes, in bytes; a manifest of many tensors is one.
LARGEST_TEXT = 16 * 2**20
# Prefix of what is being written or deleted: never read, replaced by the next write.
TEMPORARY = ".tmp-"


class FileError(ValueError):
    """A file of a run is not what the project writes; the message names it."""


class Folder:
    """A directory, open; names in it are looked up without following links.

    Args:
        path: Of the directory; a link in it is the user's own and followed.
        make: Make it, and those above it, if it is not there.

    Raises:
        OSError: it is not there, or no directory.
    """

    def __init__(self, path: Path | str, *, make: bool = False) -> None:
        self.path = Path(path)
        if make:
            self.path.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    @classmethod
    def _opened(cls, path: Path, descriptor: int) -> Self:
        folder = cls.__new__(cls)
        folder.path, folder.descriptor = path, descriptor
        return folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the directory."""
        os.close(self.descriptor)

    def folder(self, name: str, *, make: bool = False) -> Self:
        """The directory `name` in this one.

        Raises:
            FileError: it is a link, or no directory.
            OSError: it is not there.
        """
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=self.descriptor)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            descriptor = os.open(name, flags, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FileError(
                    f"{self.path / name}: expected a directory, got a link or a file. "
                    "Links in a run directory are not followed: move what it names "
                    "there."
                ) from None
            raise
        return self._opened(self.path / name, descriptor)

    def names(self) -> list[str]:
        """Of all that is in the directory, sorted."""
        return sorted(os.listdir(self.descriptor))

    def has(self, name: str) -> bool:
        """Whether anything has this name, a broken link too."""
        try:
            os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str, limit: int = LARGEST_TEXT) -> bytes:
        """The content of a regular file of at most `limit` bytes.

        Raises:
            FileError: it is a link, a pipe, a directory or larger.
            FileNotFoundError: it is not there.
        """
        with self.open(name) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise FileError(
                    f"{self.path / name}: expected {limit:,} bytes at most, "
                    f"got {size:,}."
                )
            return file.read(size)

    def open(self, name: str) -> IO[bytes]:
        """A regular file, to read.

        Raises:
            FileError: it is a link, a pipe or a directory, or can't be read.
            FileNotFoundError: it is not there.
        """
        path = self.path / name
        # Without O_NONBLOCK, opening a pipe would wait for whoever writes to it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(name, flags, dir_fd=self.descriptor)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise FileError(f"{path}: expected a file, got a link.") from None
            raise FileError(f"{path}: can't be read: {error.strerror}.") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileError(f"{path}: expected a regular file.")
        return os.fdopen(descriptor, "rb")

    def read_json(self, name: str, limit: int = LARGEST_TEXT) -> Any:
        """What a JSON file holds, without numbers that JSON does not know.

        Raises:
            FileError: see `read`; or it is no JSON.
            FileNotFoundError: it is not there.
        """
        content = self.read(name, limit)
        try:
            return json.loads(content, parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise FileError(f"{self.path / name}: not JSON: {error}.") from None

    def create(self, name: str) -> IO[bytes]:
        """A new file, to write to; it takes the place of whatever had its name.

        What a link of that name pointed to stays as it was.
        """
        self.remove(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(name, flags, 0o666, dir_fd=self.descriptor)
        return os.fdopen(descriptor, "wb", buffering=0)

    def write(self, name: str, content: bytes) -> None:
        """Replace a file; whoever is killed meanwhile leaves the old one or the new.

        Raises:
            OSError: the disk refused; the old one is as it was.
        """
        temporary = f"{TEMPORARY}{name}"
        try:
            with self.create(temporary) as file:
                view = memoryview(content)
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
            self.rename(temporary, name)
        except BaseException:
            with contextlib.suppress(OSError):
                self.remove(temporary)
            raise
        self.sync()

    def rename(self, old: str, new: str) -> None:
        """Rename; what is called `new` goes, unless it is a directory."""
        own = self.descriptor
        os.rename(old, new, src_dir_fd=own, dst_dir_fd=own)

    def remove(self, name: str) -> None:
        """Remove a file, a link (not what it names) or a directory, if it is there."""
        try:
            os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return
        except OSError:
            # Nothing but a directory: links in it are removed, not followed.
            shutil.rmtree(name, dir_fd=self.descriptor)

    def sync(self) -> None:
        """Wait until the directory's entries are on the disk."""
        os.fsync(self.descriptor)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"no number here is as large as {text:.20}")
    return number
