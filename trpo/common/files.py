"""Files of a run directory, which a stranger may have made: no link is followed.

A link could name any file of the machine, a pipe never ends, and a name may hold a
file of any size. A `Folder` is held by descriptor, so that what was looked at is what
is written to; only the path that the user typed is followed where it is a link.
"""

import contextlib
import errno
import fcntl
import itertools
import json
import math
import os
import re
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Self, TypeVar


# Of a text file that the project writes, in bytes; a manifest of many tensors is one.
LARGEST_TEXT = 16 * 2**20
# Prefix of what is being written or deleted: never read, replaced by the next write.
TEMPORARY = ".tmp-"
LOCK = ".lock"
# A file system without locks; to keep two runs apart is the user's own care there.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_T = TypeVar("_T")


_started_in = ""


@contextlib.contextmanager
def started_here() -> Iterator[None]:
    """Have relative paths be of the present directory for all of a command.

    A user's module may change it as it is imported.
    """
    global _started_in
    with contextlib.suppress(OSError):  # It may have been deleted.
        _started_in = os.getcwd()
    try:
        yield
    finally:
        _started_in = ""


def absolute(path: Path | str) -> Path:
    """A path as it was typed, wherever the process is now; as it is in no command."""
    return Path(_started_in, path)


def as_typed(text: str) -> str:
    """Text in which absolute paths below where the command was started are relative."""
    inside = rf"(?<![\w./-]){re.escape(_started_in.rstrip(os.sep))}/(?=[^/\s'\"])"
    return re.sub(inside, "", text) if _started_in else text


class FileError(ValueError):
    """A file of a run is not what the project writes; the message names it."""


class Folder:
    """A directory, open; names in it are looked up without following links.

    Every error names the whole path.

    Args:
        path: Of the directory; a link in it is the user's own and followed.
        make: Make it, and those above it, if it is not there.

    Raises:
        OSError: it is not there, or no directory.
    """

    def __init__(self, path: Path | str, *, make: bool = False) -> None:
        missing = []
        if make:
            above = (Path(path), *Path(path).parents)
            missing = [folder.parent for folder in above if not folder.exists()]
            Path(path).mkdir(parents=True, exist_ok=True)
        self._open(Path(path), os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        for parent in missing:
            with Folder(parent) as folder:
                folder.sync()

    def _open(self, path: Path, descriptor: int, above: "Folder | None" = None) -> None:
        self.path: Path = path
        self.descriptor: int = descriptor
        self._above = above
        self._lock: int | None = None
        self._kept: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the directory, and let others have it."""
        if self._lock in _LOCKS:
            _LOCKS.remove(self._lock)
            os.close(self._lock)
        os.close(self.descriptor)

    @contextlib.contextmanager
    def _at(self, name: str) -> Iterator[None]:
        """Errors name the path, of which the system knows the last part alone."""
        try:
            yield
        except OSError as error:
            error.filename = str(self.path / name)
            del error.filename2  # None would be printed.
            raise

    def folder(self, name: str, *, make: bool = False) -> Self:
        """The directory `name` in this one.

        Raises:
            FileError: it is a link, or no directory.
            OSError: it is not there.
        """
        path, folder = self.path / name, type(self).__new__(type(self))
        if make:
            with contextlib.suppress(FileExistsError):
                self._made(lambda: os.mkdir(name, dir_fd=self.descriptor))
                self.sync()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            with self._at(name):
                descriptor = os.open(name, flags, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FileError(
                    f"{path}: expected a directory, got a link or a file. Links in a "
                    "run directory are not followed: move what it names there."
                ) from None
            raise
        folder._open(path, descriptor, self)
        return folder

    def fresh(self, name: str) -> Path:
        """A new directory in this one, for others to write to; its name has a number.

        Nobody can have put a link there.
        """
        for number in itertools.count(1):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{name}-{number}", dir_fd=self.descriptor)
                break
        return self.path / f"{name}-{number}"

    def _made(self, make: Callable[[], _T]) -> _T:
        """Make an entry; if a directory that is held was deleted, in a new one."""
        try:
            return make()
        except FileNotFoundError:
            if self._lock is None:
                raise
        self._make_again()
        return make()

    def _make_again(self) -> None:
        path, above = self.path, self._above
        try:
            if above is None:
                path.mkdir(parents=True)
            else:
                above._made(lambda: os.mkdir(path.name, dir_fd=above.descriptor))
        except FileExistsError:
            reason = "deleted while in use, and something else is there now"
            raise FileExistsError(errno.EEXIST, reason, str(path)) from None
        new = Folder(path) if above is None else above.folder(path.name)
        kept, self._kept = self._kept, {}
        self.close()
        self._open(path, new.descriptor, above)
        self.lock()
        for name, content in kept.items():
            self.keep(name, content)
        warnings.warn(
            f"{path} was deleted while in use: made again with {', '.join(kept)}; what "
            "else it held is lost",
            stacklevel=2,
        )

    def keep(self, name: str, content: bytes) -> None:
        """Write a file, and again wherever a deleted directory has to be made anew."""
        self._kept[name] = content
        self.write(name, content)

    def names(self) -> list[str]:
        """Names of all that is in the directory, sorted."""
        return sorted(os.listdir(self.descriptor))

    def has(self, name: str) -> bool:
        """Whether anything has this name, a broken link too."""
        return self._mode(name) != 0

    def has_folder(self, name: str) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self._mode(name))

    def _mode(self, name: str) -> int:
        try:
            status = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return 0
        return status.st_mode

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
        try:
            return os.fdopen(self._regular(name, os.O_RDONLY), "rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            path = self.path / name
            raise FileError(f"{path}: can't be read: {error.strerror}.") from error

    def _regular(self, name: str, flags: int) -> int:
        """Descriptor of a regular file.

        Raises:
            FileError: it is anything else.
            OSError: it is not there, or not for us.
        """
        path = self.path / name
        # Without O_NONBLOCK, opening a pipe would wait for whoever writes to it.
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            with self._at(name):
                descriptor = os.open(name, flags, 0o666, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise FileError(f"{path}: expected a file, got a link.") from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileError(f"{path}: expected a regular file.")
        return descriptor

    def read_json(self, name: str, limit: int = LARGEST_TEXT) -> Any:
        """Content of a JSON file; numbers that JSON does not know are refused.

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
        """A new file, to write to; it takes the place of what had its name.

        What a link of that name pointed to stays as it was.

        Raises:
            OSError: it is a directory, or the disk refused.
        """
        self.remove(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = self._made(lambda: self._regular(name, flags))
        return os.fdopen(descriptor, "wb", buffering=0)

    def append(self, name: str) -> IO[bytes]:
        """A file that is there, to write more to its end.

        Raises:
            FileError: it is no regular file.
            OSError: it is not there, or the disk refused.
        """
        flags = os.O_WRONLY | os.O_APPEND
        return os.fdopen(self._regular(name, flags), "ab", buffering=0)

    def put(self, name: str, content: bytes) -> None:
        """Create a file, and wait until its content is on the disk."""
        with self.create(name) as file, self._at(name):
            view = memoryview(content)
            while view:
                view = view[os.write(file.fileno(), view) :]
            _sync(file.fileno())

    def write(self, name: str, content: bytes) -> None:
        """Replace a file; whoever is killed meanwhile leaves the old one or the new.

        Raises:
            OSError: it is a directory, or the disk refused; the old one is as it was.
        """
        temporary = f"{TEMPORARY}{name}"
        try:
            self.put(temporary, content)
            self.rename(temporary, name)
        except BaseException:
            with contextlib.suppress(OSError):
                self.remove(temporary)
            raise
        self.sync()

    def rename(self, old: str, new: str) -> None:
        """Rename; what is called `new` goes, unless it is a directory with content."""
        directory = self.descriptor
        with self._at(new):
            os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)

    def remove(self, name: str) -> None:
        """Remove a file, or a link but not what it names, if it is there.

        Raises:
            OSError: it is a directory.
        """
        with self._at(name), contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)

    def discard(self, name: str, files: tuple[str, ...]) -> None:
        """Remove `name`; if it is a directory, `files` in it, and itself once empty.

        What else lies there is not the project's own, and stays. Never fails: what
        can't be removed stays too.
        """
        with contextlib.suppress(OSError, FileError):
            try:
                self.remove(name)
            except OSError:
                with self.folder(name) as folder:
                    for file in files:
                        folder.remove(file)
                os.rmdir(name, dir_fd=self.descriptor)

    def sync(self) -> None:
        """Wait until the directory's entries are on the disk."""
        with self._at(""):
            _sync(self.descriptor)

    def lock(self) -> int:
        """Keep other processes out until it is closed, or this process has ended.

        Returns:
            Descriptor of the lock, for a child that is to hold it too; others don't.

        Raises:
            FileError: another process has it; the message says which. Or the lock is
                not a file of its own.
        """
        links = 0
        while not links:  # Who had it before may just have removed it.
            descriptor = self._regular(LOCK, os.O_RDWR | os.O_CREAT)
            try:
                self._take(descriptor)
                links = os.fstat(descriptor).st_nlink
                if links > 1:
                    # Of a hard link the content would be another file's too.
                    path = self.path / LOCK
                    raise FileError(f"{path}: expected a file with no other name.")
            except BaseException:
                os.close(descriptor)
                raise
            if not links:
                os.close(descriptor)
        host, since = os.uname().nodename, time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError):  # A full disk
            os.ftruncate(descriptor, 0)
            who = f"process {os.getpid()} on {host} since {since}"
            os.pwrite(descriptor, who.encode(), 0)
        self._lock = descriptor
        _LOCKS.add(descriptor)
        return descriptor

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(descriptor, 200, 0).decode(errors="replace")
            raise FileError(
                f"{self.path}: in use by {who or 'another process'}, or by one that it "
                "has started: wait for its end, or stop it."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise


@contextlib.contextmanager
def opened(directory: Path | Folder, *, make: bool = False) -> Iterator[Folder]:
    """The folder itself, or opened for the time of the block."""
    if isinstance(directory, Folder):
        yield directory
    else:
        with Folder(directory, make=make) as folder:
            yield folder


class GrowingFile:
    """A file that grows by whole pieces; a disk that refuses one leaves it as it was.

    Args:
        folder: Where it is made, in place of what had its name.
        name: Of the file.
        head: How it begins, also if it is deleted meanwhile and has to begin anew.
        content: What comes after that now.
        inside: Name of a directory in `folder`, made if it is not there, to hold it.
    """

    def __init__(
        self,
        folder: Folder,
        name: str,
        head: bytes,
        content: bytes = b"",
        inside: str | None = None,
    ) -> None:
        self._folder, self._name, self._head = folder, name, head
        self._inside = inside
        self._file = self._begun(content)

    def _begun(self, content: bytes) -> IO[bytes]:
        with contextlib.ExitStack() as stack:
            folder = self._folder
            if self._inside is not None:
                folder = stack.enter_context(folder.folder(self._inside, make=True))
            folder.write(self._name, self._head + content)
            return folder.append(self._name)

    def append(self, piece: bytes) -> OSError | FileError | None:
        """Append the whole of a piece or nothing; returns what refused it."""
        try:
            if not os.fstat(self._file.fileno()).st_nlink:
                deleted, self._file = self._file, self._begun(b"")
                deleted.close()
            size = os.fstat(self._file.fileno()).st_size
            try:
                if self._file.write(piece) != len(piece):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                self._file.truncate(size)
                raise
        except (OSError, FileError) as error:
            return error
        return None

    def close(self) -> None:
        """Close it."""
        self._file.close()


_LOCKS: set[int] = set()


def _let_go() -> None:
    """A forked child has the parent's locks, which are to end with the parent."""
    while _LOCKS:
        os.close(_LOCKS.pop())


os.register_at_fork(after_in_child=_let_go)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"no number here is as large as {text:.20}")
    return number
