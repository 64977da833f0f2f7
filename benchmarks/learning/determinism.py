"""Do deterministic runs of one seed end in the same bytes?

python -m benchmarks.learning.determinism --device cuda
"""

import csv
import dataclasses
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.command import Output, run_command
from benchmarks.speed.cell import BACKENDS
from trpo.runs.directory import RunDirectory


RUNS = 2
COLUMNS = ("env_id", "backend", "device", "steps", "run", "sha256")


@dataclasses.dataclass
class Arguments(Output):
    """Train twice with each backend and one seed; compare all arrays at the end."""

    env_id: str = "Pendulum-v1"
    """Gymnasium id."""
    device: str = "cpu"
    """Of the agents: cpu, cuda, cuda:1."""
    backends: tuple[Literal["torch", "jax"], ...] = BACKENDS  # pyright: ignore[reportAssignmentType]
    """Frameworks."""
    total_steps: int = 8_192
    """Environment steps of each run, in whole rollouts."""


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a state, whatever order it is in."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        found.update(arrays[name].tobytes())
    return found.hexdigest()


def trained(backend: str, arguments: Arguments, run_dir: Path) -> tuple[int, str]:
    """Steps, and the digest of the state, of a run in a process of its own.

    Raises:
        RuntimeError: it failed; the message is its last line.
    """
    command = [
        *(sys.executable, "-m", "trpo", "train", arguments.env_id),
        *("--backend", backend, "--device", arguments.device, "--deterministic"),
        *("--total-steps", str(arguments.total_steps), "--eval-episodes", "0"),
        *("--run-dir", str(run_dir)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    checkpoint, _ = RunDirectory(run_dir).load()
    return checkpoint.step, digest(checkpoint.arrays)


def main(arguments: Arguments) -> int:
    """Train, compare, write determinism.csv; 1 if two runs of a backend differ."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="trpo-determinism-") as folder:
        for backend in arguments.backends:
            for number in range(RUNS):
                given = (backend, arguments, Path(folder) / f"{backend}-{number}")
                rows.append((arguments.env_id, backend, arguments.device,
                             *trained(*given)))  # fmt: skip
                rows[-1] = (*rows[-1][:4], number, rows[-1][4])
                print(*rows[-1], flush=True)
    out = arguments.folder("determinism")
    out.mkdir(parents=True, exist_ok=True)
    with (out / "determinism.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    found = {backend: {row[5] for row in rows if row[1] == backend}
             for backend in arguments.backends}  # fmt: skip
    differing = [backend for backend, digests in found.items() if len(digests) > 1]
    if differing:
        print(f"differ: {', '.join(differing)}")
    return int(bool(differing))


if __name__ == "__main__":
    run_command(main, Arguments)
