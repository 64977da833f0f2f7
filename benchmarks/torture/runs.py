"""Faults of whole runs: bad data, full disks, kills; and what must never differ."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from rich.console import Console

from benchmarks.torture.checkpoints import scratch
from benchmarks.torture.faulty import Faulty
from benchmarks.torture.rows import Row, Scenario, require
from trpo.checkpoint import load_checkpoint, newest_checkpoint
from trpo.commands import train_run
from trpo.config import TrainConfig, TRPOConfig
from trpo.metrics import read_metrics
from trpo.run_directory import RunDirectory, RunDirectoryError
from trpo.training import Trainer
from trpo.transitions import NonFiniteTransitionError


BACKENDS = ("torch", "jax")
AGENT = TRPOConfig(
    policy_layer_sizes=(8,), critic_layer_sizes=(8,), value_epochs=2, cg_iters=4
)


class Walk(gymnasium.Env):
    """A random walk of ten steps; its reward is NaN when the seed says so."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, poison: float = 0.0) -> None:
        self.poison = poison

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.at, self.count = self.np_random.standard_normal(2), 0
        self.bad = 7 if self.np_random.random() < self.poison else 0
        return self.at.copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Walk on."""
        self.count += 1
        self.at = 0.9 * self.at + 0.1 * self.np_random.standard_normal(2)
        reward = float(action[0] * self.at[0] - self.at[1] ** 2)
        reward = float("nan") if self.count == self.bad else reward
        return self.at.copy(), reward, False, self.count == 10, {}


for _name, _entry, _options in (
    ("Walk-v0", Walk, {}),
    ("PoisonedWalk-v0", Walk, {"poison": 0.3}),
    ("Faulty-v0", Faulty, {"kind": "raise", "phase": "step"}),
):
    if f"TrpoTorture/{_name}" not in gymnasium.registry:
        gymnasium.register(
            f"TrpoTorture/{_name}", _entry, kwargs=_options, disable_env_checker=True
        )


def config(backend: str, name: str = "Walk-v0", **changes: Any) -> TrainConfig:
    """A short run on a small environment."""
    given: dict[str, Any] = {
        "env_id": f"benchmarks.torture.runs:TrpoTorture/{name}", "backend": backend,
        "num_envs": 3, "rollout_steps": 16, "total_steps": 48 * 6, "agent": AGENT,
        "eval_episodes": 0, "checkpoint_interval": 1, "keep_checkpoints": 50,
    }  # fmt: skip
    return TrainConfig(**given | changes)


def digest(state: dict[str, np.ndarray]) -> str:
    """SHA-256 of every name and byte of a state."""
    whole = hashlib.sha256()
    for name in sorted(state):
        array = state[name]
        whole.update(f"{name} {array.dtype.str} {array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()


@contextmanager
def _closing(trainer: Trainer) -> Iterator[Trainer]:
    try:
        yield trainer
    finally:
        trainer.close()


def _quiet() -> Console:
    return Console(file=StringIO(), width=200)


def _said(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def stops_saved(row: Row) -> None:
    """A NaN in the middle of a run: what it had learned is saved, and it is named."""
    for index in range(row.tries):
        backend, console = BACKENDS[index % 2], _quiet()
        # Poison that starts later with other seeds.
        settings = config(
            backend, "PoisonedWalk-v0", seed=index, rollout_steps=5,
            total_steps=15 * 20, checkpoint_interval=100,
        )  # fmt: skip
        with scratch() as root, row.attempt(f"{backend}, seed {index}"):
            try:
                train_run(settings, root / "run", console=console)
                require(False, "it did not stop")
            except NonFiniteTransitionError as error:
                require("from environment" in str(error), f"it said {error}")
            require("continue: trpo train --resume" in _said(console), "not told")
            saved = RunDirectory(root / "run").load()[0]
            done = int(saved.arrays["training.update"])
            with _closing(Trainer(settings)) as again:
                again.run(num_updates=done)
                same = digest(again.get_state()) == digest(saved.arrays)
                require(same, f"another state than after {done} updates")


def drops(row: Row) -> None:
    """A dropped segment: the update is that on the rest, bit for bit."""
    dropped = 0
    for index in range(row.tries):
        backend = BACKENDS[index % 2]
        settings = config(backend, "PoisonedWalk-v0", seed=index, on_bad_data="drop")
        with row.attempt(f"{backend}, seed {index}"):
            with _closing(Trainer(settings)) as trainer:
                agent, seen = trainer.agent, {}
                update = agent.update

                def watched(batch: Any, update: Any = update, seen: Any = seen,
                            **rates: Any) -> Any:  # fmt: skip
                    seen["batch"], seen["rates"] = batch, rates
                    return update(batch, **rates)

                agent.update = watched  # pyright: ignore
                for _ in range(3):
                    before = agent.get_state()
                    metrics = trainer.train_once().metrics
                    dropped += int(metrics["rollout/dropped_steps"])
                    arrays = [a for a in seen["batch"] if a is not None]
                    require(all(np.isfinite(a).all() for a in arrays), "not finite")
                    size = 48 - int(metrics["rollout/dropped_steps"])
                    require(len(arrays[0]) == size, "not counted rightly")
                    # The same samples, and no more, to an agent that saw no others.
                    after = agent.get_state()
                    agent.set_state(before)
                    update(seen["batch"]._replace(), **seen["rates"])
                    alone = agent.get_state()
                    kept = [n for n in after if n.startswith(("policy.", "value"))]
                    same = all((alone[n] == after[n]).all() for n in kept)
                    require(same, "another update than on the rest")
                    agent.set_state(after)
    row.note = f"{dropped} steps dropped"


FILL = 160 * 2**10


def full_disk(row: Row) -> None:
    """A disk (tmpfs) that fills up: training ends, the user is told, old saves load."""
    for index in range(row.tries):
        with scratch() as root:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={FILL}", "tmpfs", str(root)]
            if subprocess.run(mount, capture_output=True, check=False).returncode:
                row.note = "not run: no right to mount a tmpfs"
                return
            try:
                with row.attempt(index):
                    _full_once(root, BACKENDS[index % 2])
            finally:
                subprocess.run(["umount", "-l", str(root)], check=True)


def _full_once(root: Path, backend: str) -> None:
    console, settings = _quiet(), config(backend, total_steps=48 * 12)
    (root / "filler").write_bytes(bytes(60 * 2**10))
    try:
        train_run(settings, root / "run", console=console)
        require(False, "the disk was not full")
    except RunDirectoryError as error:
        require("room for the last checkpoint" in str(error), f"it said {error}")
    said = _said(console)
    require("no checkpoint was written" in said, "the user was not told")
    require(f"{settings.num_steps} of" in said.replace(",", ""), "training stopped")
    found = sorted((root / "run" / "checkpoints").glob("checkpoint-*"))
    require(found, "nothing was saved before")
    for path in found:
        load_checkpoint(path)
    steps = [row["step"] for row in read_metrics(root / "run" / "metrics.csv")]
    require(all(step % 48 == 0 for step in steps), "a torn row")
    more = ["mount", "-o", "remount,size=8m", str(root)]
    subprocess.run(more, check=True)
    train_run(settings, root / "run", resume=True, console=console)
    state = newest_checkpoint(root / "run" / "checkpoints")[0].arrays
    with _closing(Trainer(settings)) as whole:
        whole.run()
        require(digest(whole.get_state()) == digest(state), "not resumed exactly")


AS_NOBODY = """
import os, sys
from pathlib import Path
import numpy as np
from trpo.checkpoint import newest_checkpoint, save_checkpoint
os.setgid(65534), os.setuid(65534)
try:
    save_checkpoint(Path(sys.argv[1]), 2, {"w": np.ones(3)}, {}, 1)
except OSError as error:
    print("refused", newest_checkpoint(Path(sys.argv[1]))[0].step)
"""


def no_permission(row: Row) -> None:
    """A folder that may not be written to: by its mode, or a read-only file system."""
    from trpo.checkpoint import save_checkpoint

    for index in range(row.tries):
        with scratch() as root, row.attempt(index):
            root.chmod(0o755)
            save_checkpoint(root / "saves", 1, {"w": np.ones(3)}, {}, 1)
            here = str(root / "saves")
            code = AS_NOBODY
            mounted = index % 2 == 1
            if mounted:
                code = code.replace("os.setgid(65534), os.setuid(65534)", "")
                for rest in (["--bind"], ["-o", "remount,ro,bind"]):
                    subprocess.run(["mount", *rest, here, here], check=True)
            elif os.getuid() != 0:
                (root / "saves").chmod(0o555)
                code = code.replace("os.setgid(65534), os.setuid(65534)", "")
            try:
                command = [sys.executable, "-c", code, here]
                said = subprocess.run(
                    command, capture_output=True, text=True, check=False
                )
            finally:
                if mounted:
                    subprocess.run(["umount", here], check=True)
            require(said.stdout == "refused 1\n", said.stdout + said.stderr)


RUN = """
import sys
from pathlib import Path
from benchmarks.torture.runs import config
from trpo.commands import train_run
directory = Path(sys.argv[2])
train_run(config(sys.argv[1], total_steps=int(sys.argv[3])), directory,
          resume=(directory / "checkpoints").exists())
"""


def killed_run(number: signal.Signals) -> Any:
    """A training process ended at a random moment; the resumed run ends in its bits."""

    def run(row: Row) -> None:
        draw = random.Random(int(number))
        settings = config("torch", total_steps=48 * 150)
        with _closing(Trainer(settings)) as whole:
            whole.run()
            wanted = digest(whole.get_state())
        for index in range(row.tries):
            with scratch() as root, row.attempt(index):
                command = [sys.executable, "-c", RUN, "torch", str(root / "run")]
                for end in (True, True, False):
                    process = subprocess.Popen(
                        [*command, str(settings.total_steps)],
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                    )
                    if end:
                        saves = root / "run" / "checkpoints"
                        while not list(saves.glob("checkpoint-*")):
                            time.sleep(0.02)
                            require(process.poll() is None, "it ended by itself")
                        time.sleep(draw.uniform(0.0, 0.7))
                        process.send_signal(number)
                    _, said = process.communicate(timeout=120)
                require(process.returncode == 0, said.decode()[-300:])
                found = newest_checkpoint(root / "run" / "checkpoints")[0]
                require(digest(found.arrays) == wanted, "not resumed exactly")

    return run


def deterministic(row: Row) -> None:
    """The same seed, the same bytes."""
    wanted = {}
    for index in range(row.tries):
        backend = BACKENDS[index % 2]
        with row.attempt(f"{backend}, run {index}"):
            with _closing(Trainer(config(backend))) as trainer:
                trainer.run()
                found = digest(trainer.get_state())
            require(wanted.setdefault(backend, found) == found, "other bytes")


SCENARIOS = [
    Scenario("run", "NaN reward in the middle: stops, saved", 20, stops_saved, 2),
    Scenario("run", "NaN reward in the middle: dropped", 40, drops, 2),
    Scenario("run", "disk full (tmpfs)", 10, full_disk),
    Scenario("run", "no permission, read-only file system", 20, no_permission, 2),
    Scenario("run", "kill -9, resumed exactly", 10, killed_run(signal.SIGKILL)),
    Scenario("run", "SIGTERM, resumed exactly", 10, killed_run(signal.SIGTERM)),
    Scenario("run", "the same seed gives the same bytes", 20, deterministic, 4),
]
