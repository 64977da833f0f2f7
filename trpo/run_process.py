"""Processes of many runs: one thread each, told to save and exit on request."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from trpo.common.files import Folder
from trpo.common.terminal import word


# Of a log that a failed run's last lines are looked for in.
LAST_BYTES = 4096


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep a second study from writing to the same run directories.

    Raises:
        FileError: a study is running there, or a run that outlived its study.
    """
    with Folder(root, make=True) as folder:
        # Runs hold the lock too: a killed study's runs go on, and end.
        os.set_inheritable(folder.lock(), True)
        yield


class Stop(Protocol):
    """A request to save and exit, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether it has come."""
        ...


class Launch(Protocol):
    """A function like `execute`, for this machine or another."""

    def __call__(self, command: list[str], log: Path, stop: Stop) -> None:
        """Run a command with its output in `log`; let it save and exit on `stop`."""
        ...


def execute(command: list[str], log: Path, stop: Stop) -> None:
    """Run a command with its output in `log`; let it save and exit on `stop`.

    Raises:
        RuntimeError: it failed; a note has its last lines.
    """
    # One thread: the networks are small, and threads that wait for each other on a
    # busy machine make PyTorch tens of times slower.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
        "--xla_cpu_multi_thread_eigen=false",
    }
    with Folder(log.parent) as folder, folder.create(log.name) as file:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            close_fds=False,  # the lock is inherited
        )
        asked_to_stop = False
        while True:
            try:
                status = process.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if stop.is_set() and not asked_to_stop:
                    process.terminate()
                    asked_to_stop = True
    if status != 0 and not stop.is_set():
        failure = RuntimeError(
            f"{' '.join(map(word, command))}: exit status {status}, see {log}:"
        )
        failure.add_note("\n".join(_last_lines(log)))
        raise failure


def _last_lines(log: Path) -> list[str]:
    """The last three lines of a file of any size and any bytes."""
    with Folder(log.parent) as folder, folder.open(log.name) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_BYTES))
        return file.read().decode(errors="backslashreplace").strip().splitlines()[-3:]
