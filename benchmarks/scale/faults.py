"""A rank of a run is killed or stopped: what do the others do, and how soon?"""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.scale.processes import start
from trpo.rank_watch import LOST_RANK
from trpo.runs.checkpoint import newest_checkpoint


TIMEOUT = 5.0
FAULTS = (
    (signal.SIGKILL, 1),
    (signal.SIGKILL, 0),
    (signal.SIGSTOP, 1),
    (signal.SIGSTOP, 0),
)
UPDATES = 3


def rows() -> Iterator[tuple]:
    """One of each backend and fault."""
    for backend in ("torch", "jax"):
        for number, lost in FAULTS:
            with tempfile.TemporaryDirectory() as directory:
                yield _row(backend, number, lost, Path(directory) / "run")


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def _row(backend: str, number: signal.Signals, lost: int, run: Path) -> tuple:
    command = [
        "-m", "trpo", "train", "Pendulum-v1", "--backend", backend, "--run-dir",
        str(run), "--distributed", "--rank-timeout", str(TIMEOUT), "--num-envs", "4",
        "--rollout-steps", "16", "--total-steps", "1000000", "--checkpoint-interval",
        "100000", "--policy-layer-sizes", "8", "--critic-layer-sizes", "8",
    ]  # fmt: skip
    processes = start(command, 2)
    left = processes[1 - lost]
    try:
        metrics, deadline = run / "metrics.csv", time.monotonic() + 200
        while _lines(metrics) <= UPDATES:
            if time.monotonic() > deadline or left.poll() is not None:
                raise RuntimeError(f"the run did not start: {left.communicate()[1]}")
            time.sleep(0.1)
        processes[lost].send_signal(number)
        begin = time.monotonic()
        _, error = left.communicate(timeout=60)
        seconds = time.monotonic() - begin
    except subprocess.TimeoutExpired:
        return (backend, number.name, lost, "", "hangs", False, "")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    named = f"lost rank {lost}:" in error and left.returncode == LOST_RANK
    saved = newest_checkpoint(run / "checkpoints")[0].step
    return (backend, number.name, lost, f"{seconds:.1f}", left.returncode, named, saved)
