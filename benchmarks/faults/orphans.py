"""Ends of a program whose environments were never closed: no process is left.

Each time five vectors are open: one that idles, and four of which a worker sleeps, or
computes without ever giving Python's lock back, in its constructor or in a step.
"""

import collections
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from benchmarks.faults.faulty_environment import Faulty
from benchmarks.faults.row import Row, Scenario, require
from benchmarks.speed.runner import ROOT
from trpo.common.random_streams import Purpose
from trpo.environments import process_workers as worker_processes
from trpo.environments.seeded import SeededEpisodes


STUCK = "stuck"
CASES = [("", ""), *itertools.product(("sleeps", "spins"), ("constructor", "step"))]
# Only a hang takes as long.
PATIENCE = 600.0
MARK = "TRPO_TEST_PROGRAM"

PROGRAM = """
import functools, os, signal, sys, threading, time
from benchmarks.faults.__main__ import orphans
from benchmarks.faults.workers import alive
from trpo.environments.worker_vector import WorkerVectorEnv

envs = []

def play(kind, phase):
    cases = [("", ""), (kind, phase)]
    makers = [functools.partial(orphans.make, *case) for case in cases]
    env = WorkerVectorEnv(makers, timeout=3600.0)
    envs.append(env)
    env.reset()
    env.step(orphans.ACTIONS)

if __name__ == "__main__":
    play(*orphans.CASES[0])
    for case in orphans.CASES[1:]:
        threading.Thread(target=play, args=case, daemon=True).start()
    print("started", flush=True)
    sys.stdin.readline()
    {end}
"""
# How a program ends, in a statement; its exit status; options of the interpreter.
ENDS = {
    "it returns": ("pass", 0),
    "interactive": ("pass", 0, "-i"),
    "it raises": ("raise RuntimeError", 1),
    "sys.exit": ("sys.exit(3)", 3),
    "os._exit": ("os._exit(3)", 3),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -15),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -9),
    "its fork ends first": ("os.fork() and (os.wait(), envs[0].reset())", 0),
    "its fork ends last": (
        "pids = orphans.all_pids()\n    os.fork() and os._exit(0)\n    "
        "while alive(pids): time.sleep(0.02)",
        0,
    ),
}
ACTIONS = np.zeros((2, 1), dtype=np.float32)


class Stuck(Faulty):
    """Says so, then sleeps or computes for ever."""

    def _fail(self, phase: str) -> None:
        if phase != self.phase:
            return
        os.write(1, f"{STUCK}\n".encode())  # In one piece: others write there too.
        if self.kind == "sleeps":
            time.sleep(1e6)
        collections.deque(itertools.count(), maxlen=0)


def make(kind: str, phase: str) -> gymnasium.Env:
    """An environment that gets stuck, if there is a kind."""
    env: Any = Stuck(kind, phase)
    # In its first step, where `Faulty` fails in the third.
    env.steps = 2
    return SeededEpisodes(env, 0, 0, Purpose.TRAINING_RESET)


def all_pids() -> list[int]:
    """Of all workers of this process."""
    return [p.pid for workers in worker_processes._open for p in workers._processes]


def of_program(mark: str) -> list[int]:
    """All processes that descend from one that was started with this mark."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:
            continue  # It has ended, or is somebody else's.
    return found


def waited(left: Callable[[], list[int]]) -> list[int]:
    """What is left once nothing is, or after a patient while."""
    deadline = time.monotonic() + PATIENCE
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def run(program: str, stuck: int, *options: str) -> tuple[int, list[int]]:
    """Have a program end, once this many of its environments are stuck.

    Returns:
        Its exit status, and the processes that it has left.
    """
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.py"
        path.write_text(program)
        process = subprocess.Popen(
            [sys.executable, *options, str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT), MARK: mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout as stdout:
            said = [stdout.readline().strip() for _ in range(1 + stuck)]
        process.wait()
        late.cancel()
        require(sorted(said) == ["started", *[STUCK] * stuck], f"it said {said}")
    left = waited(lambda: of_program(mark))
    for pid in left:
        os.kill(pid, 9)
    return process.returncode, left


def ended(end: str) -> Any:
    """The program ends with its own status, and leaves no process."""
    statement, wanted, *options = ENDS[end]

    def tries(row: Row) -> None:
        for index in range(row.tries):
            with row.attempt(index):
                program = PROGRAM.format(end=statement)
                status, left = run(program, len(CASES) - 1, *options)
                require(status == wanted, f"exit status {status}")
                require(not left, f"{len(left)} processes were left")

    return tries


SCENARIOS = [
    Scenario("workers", f"never closed: {end}", 10, ended(end)) for end in ENDS
]
