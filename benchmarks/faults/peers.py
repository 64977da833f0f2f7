"""sb3-contrib's TRPO under the same faults, in a process with its own packages.

    python -m benchmarks.faults.peers FAULT TRIES   (by the peers' interpreter)

Prints one line for each try: "survived" or what was lost.
"""

# The peers are an optional extra.
# pyright: reportMissingImports=false

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults.row import Row, Scenario


PEER = "sb3-contrib"
STARTING, CLOSE_SECONDS = 20.0, 10.0


def scenarios(python: Path) -> list[Scenario]:
    """The rows of sb3-contrib.

    Args:
        python: An interpreter that has the `peers` extra.
    """

    def of(fault: str) -> Callable[[Row], None]:
        def run(row: Row) -> None:
            command = [
                str(python),
                "-m",
                "benchmarks.faults.peers",
                fault,
                str(row.tries),
            ]
            result = subprocess.run(
                command, capture_output=True, text=True, check=False
            )
            answers = [
                line.removeprefix("try: ")
                for line in result.stdout.splitlines()
                if line.startswith("try: ")
            ]
            for answer in answers:
                with row.attempt(fault):
                    if answer != "survived":
                        raise AssertionError(answer)
            if len(answers) != row.tries:
                raise RuntimeError(result.stderr[-500:])

        return run

    return [
        Scenario("update", "NaN reward in the middle", 20, of("nan"), 1, PEER),
        Scenario("checkpoint", "kill -9 in a save loop", 50, of("kill"), 2, PEER),
        Scenario("environment", "killed, then closed", 5, of("worker"), 1, PEER),
    ]  # fmt: skip


def _model(env: Any, **settings: Any) -> Any:
    from sb3_contrib import TRPO

    return TRPO("MlpPolicy", env, n_steps=64, device="cpu", seed=0, **settings)


def nan(index: int) -> str:
    """One NaN reward: is the policy finite afterwards?"""
    import gymnasium
    import torch

    class Poisoned(gymnasium.Wrapper):
        count = 0

        def step(self, action: Any) -> Any:
            obs, reward, *rest = self.env.step(action)
            self.count += 1
            bad = self.count == 70 + index
            return obs, float("nan") if bad else reward, *rest

    model = _model(Poisoned(gymnasium.make("Pendulum-v1")))
    said = "no error"
    try:
        model.learn(256)
    except ValueError:
        said = "ValueError"
    finite = all(torch.isfinite(p).all() for p in model.policy.parameters())
    return "survived" if finite else f"the policy is NaN, with {said}"


SAVE = """
import sys, gymnasium
from benchmarks.faults.peers import _model
model = _model(gymnasium.make("Pendulum-v1"))
saves = 0
while True:
    saves += 1
    model.save(sys.argv[1])
    print(saves, flush=True)
"""


def kill(index: int) -> str:
    """Kill -9 in a save loop: can the file be loaded?"""
    from sb3_contrib import TRPO

    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "model.zip"
        command = [sys.executable, "-c", SAVE, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.Random(index).uniform(0.0, 0.2))
        process.kill()
        process.wait()
        process.stdout.close()
        try:
            TRPO.load(path, device="cpu")
        except Exception as error:
            return f"the checkpoint can't be loaded ({type(error).__name__})"
    return "survived"


def worker(index: int) -> str:
    """A worker is killed: is there an error, and does `close` return?"""
    process = multiprocessing.get_context("spawn").Process(target=_worker)
    process.start()
    process.join(STARTING + CLOSE_SECONDS)
    hangs = process.is_alive()
    if hangs:
        for child in subprocess.run(
            ["pgrep", "-P", str(process.pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split():
            os.kill(int(child), signal.SIGKILL)
        process.kill()
        process.join()
    return (
        f"step() or close() hung for over {CLOSE_SECONDS:g} s" if hangs else "survived"
    )


def _worker() -> None:
    import gymnasium
    import numpy as np
    from stable_baselines3.common.vec_env import SubprocVecEnv

    env = SubprocVecEnv([lambda: gymnasium.make("Pendulum-v1")] * 2)
    env.reset()
    os.kill(env.processes[1].pid, signal.SIGKILL)
    time.sleep(0.5)
    with contextlib.suppress(EOFError, OSError):
        env.step(np.zeros((2, 1)))
    env.close()


def _report(fault: str, tries: int) -> None:
    for index in range(tries):
        print("try:", {"nan": nan, "kill": kill, "worker": worker}[fault](index))
        sys.stdout.flush()


if __name__ == "__main__":
    _report(sys.argv[1], int(sys.argv[2]))
