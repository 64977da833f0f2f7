"""A rank of a run is killed or stopped: what do the others do, and how soon?

Nothing may be lost: the last checkpoint is whole, and the run that goes on from it ends
as one to which nothing happened.
"""

import os
import random
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.scale.equal_runs import RUN, same_as_one
from benchmarks.scale.processes import Launch
from trpo.runs.directory import RunDirectory


# Seconds in which the others have to name the rank and end.
SECONDS = 30.0


class Attack(NamedTuple):
    """One rank's end.

    Attributes:
        launcher: that started it.
        backend: of the run.
        size: processes.
        lost: its rank.
        number: SIGKILL or SIGSTOP.
        wait: seconds after the first checkpoint.
        timeout: seconds of `--rank-timeout`.
    """

    launcher: str
    backend: str
    size: int
    lost: int
    number: signal.Signals
    wait: float
    timeout: float = 20.0


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        seconds: until all others had ended.
        named: whether somebody has said which rank it was.
        saved: step of the checkpoint that was left.
        resumed: whether the resumed run ended as one to which nothing happened.
    """

    seconds: float
    named: bool
    saved: int
    resumed: bool


def attacks(count: int, seed: int = 0) -> Iterator[Attack]:
    """Kills of random ranks at random moments."""
    generator = random.Random(seed)
    kinds = [
        ("--coordinator", "torch", 3), ("--coordinator", "jax", 2),
        ("torchrun", "torch", 2), ("mpirun", "jax", 2),
        ("mpirun", "torch", 4), ("--coordinator", "jax", 4),
    ]  # fmt: skip
    for i in range(count):
        launcher, backend, size = kinds[i % len(kinds)]
        lost, wait = generator.randrange(size), generator.uniform(0.0, 1.0)
        yield Attack(launcher, backend, size, lost, signal.SIGKILL, wait)


def made(attack: Attack, folder: Path) -> Outcome:
    """Attack a run and resume it.

    Raises:
        TimeoutError: the others did not end.
        RuntimeError: the run did not start.
    """
    run = folder / "run"
    more = [*RUN, "--distributed", "--backend", attack.backend, "--run-dir", str(run)]
    more += ["--rank-timeout", str(attack.timeout)]
    with Launch(attack.launcher, more, attack.size, folder / "log.txt") as launch:
        while not [*run.glob("checkpoints/checkpoint-*")]:
            if any(process.poll() is not None for process in launch.processes):
                raise RuntimeError(f"it did not start: {launch.wait()[-2000:]}")
            time.sleep(0.02)
        time.sleep(attack.wait)
        os.kill(launch.ranks()[attack.lost], attack.number)
        begin = time.monotonic()
        while launch.ranks().keys() - {attack.lost}:
            if time.monotonic() - begin > 2 * SECONDS:
                raise TimeoutError(f"ranks {[*launch.ranks()]} are still there")
            time.sleep(0.05)
        seconds = time.monotonic() - begin
        # Of a rank that is stopped, and what waits for it.
        time.sleep(1.0)
        said = launch.log.read_text(errors="replace")
    saved, broken = RunDirectory(run).load()
    assert not broken, broken
    again = ["train", "--resume", str(run), "--distributed"]
    with Launch(attack.launcher, again, attack.size, folder / "again.txt") as launch:
        launch.wait()
    return Outcome(seconds, names(said, attack.lost), saved.step, same_as_one(run)[1])


def names(said: str, rank: int) -> bool:
    """Whether it says which rank was lost: ours, torchrun, mpirun or JAX's service."""
    by = [
        rf"lost rank {rank}:",
        rf"Root Cause(?s:.)*?\n\s*rank\s*: {rank} ",
        rf"noticed that process rank {rank} ",
        rf"unhealthy \(stopped sending heartbeats\):\n{rank}\n",
    ]
    # The one that has the service.
    by += [r"the leader task was preempted/died"] if rank == 0 else []
    return any(re.search(pattern, said) for pattern in by)


# Of each backend: a rank is killed, or stopped.
ROWS = (
    *(("torchrun", "torch", rank, signal.SIGKILL) for rank in (1, 0)),
    *(("mpirun", backend, 1, signal.SIGKILL) for backend in ("torch", "jax")),
    *(
        ("--coordinator", backend, rank, number)
        for backend in ("torch", "jax")
        for number in (signal.SIGKILL, signal.SIGSTOP)
        for rank in (1, 0)
    ),
)


def rows() -> Iterator[tuple]:
    """One of each launcher, backend and fault."""
    for launcher, backend, lost, number in ROWS:
        attack = Attack(launcher, backend, 2, lost, number, wait=0.5)
        with tempfile.TemporaryDirectory() as directory:
            outcome = made(attack, Path(directory))
        seconds = f"{outcome.seconds:.1f}"
        yield (launcher, backend, number.name, lost, seconds, *outcome[1:])
