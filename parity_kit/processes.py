"""The parent's side of the framework processes: one for each framework and dtype."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from parity_kit import arrays


Key = tuple[str, str, str]


class ProcessError(RuntimeError):
    """A process ended, or its own code failed."""


class Processes:
    """Framework processes, started when first asked, ended on leaving the context.

    Several proofs can share them, so that each framework is imported once.
    """

    def __init__(self) -> None:
        self._running: dict[Key, subprocess.Popen[str]] = {}
        self._facts: dict[Key, dict[str, Any]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="parity-")
        self._numbers = itertools.count()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and remove their files."""
        for key, process in self._running.items():
            assert process.stdin is not None
            process.stdin.close()
            if key not in self._facts:
                process.kill()  # It still imports what nobody asked for.
        for process in self._running.values():
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
        self._running.clear()
        self._folder.cleanup()

    def ask(self, key: Key, do: str, **request: Any) -> dict[str, Any]:
        """One request's answer.

        Args:
            key: Framework, dtype, device.
            do: A method of `worker.Worker`.
            **request: Its arguments, plain JSON.

        Raises:
            ValueError: the caller's mistake, in the worker's words.
            ProcessError: the process ended, or failed at what isn't the caller's.
        """
        process = self._running.get(key) or self._start(key)
        return self._send(key, process, do, request)

    def start(self, *keys: Key) -> None:
        """Start processes side by side; they import their frameworks meanwhile."""
        for key in keys:
            if key not in self._running:
                self._start(key)

    def facts(self, key: Key) -> dict[str, Any]:
        """Versions, and whether the device is there.

        Raises:
            ValueError: the framework isn't installed.
        """
        self.ask(key, "ready")
        return self._facts[key]

    def file(self, named: Mapping[str, np.ndarray] | None = None) -> str:
        """A new file's path, with these arrays in it."""
        path = str(Path(self._folder.name) / f"{next(self._numbers)}.safetensors")
        if named is not None:
            arrays.save(named, path)
        return path

    def _start(self, key: Key) -> subprocess.Popen[str]:
        framework, dtype, device = key
        environment = os.environ | {
            "JAX_ENABLE_X64": "1" if dtype == "float64" else "0",
            "OMP_NUM_THREADS": "1",
            # JAX would take most of a GPU's memory and leave PyTorch the rest.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        if device == "cpu":
            environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.Popen(
            [sys.executable, "-m", "parity_kit.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self._running[key] = process
        request = {
            "do": "start", "framework": framework, "device": device, "path": sys.path,
            "dtype": "float32" if dtype == "tf32" else dtype, "tf32": dtype == "tf32",
        }  # fmt: skip
        self._write(key, process, request)
        return process

    def _send(
        self, key: Key, process: subprocess.Popen[str], do: str, request: dict
    ) -> dict[str, Any]:
        if key not in self._facts:
            self._facts[key] = self._read(key, process)
        if do == "ready":
            return {}
        self._write(key, process, {"do": do, **request})
        return self._read(key, process)

    def _write(self, key: Key, process: subprocess.Popen[str], request: dict) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except OSError as error:
            raise ProcessError(self._ended(key, process)) from error

    def _read(self, key: Key, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise ProcessError(self._ended(key, process))
        reply = json.loads(line)
        if "misuse" in reply:
            raise ValueError(reply["misuse"])
        if "failed" in reply:
            raise ProcessError(f"{key[0]} in {key[1]}: {reply['failed']}")
        return reply["answer"]

    def _ended(self, key: Key, process: subprocess.Popen[str]) -> str:
        self._running.pop(key, None)
        self._facts.pop(key, None)
        status = process.wait()
        return (
            f"{key[0]} in {key[1]}: its process ended with status {status}; what it "
            "said is above."
        )
